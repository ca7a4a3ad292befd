//! Services that start, stop, are replaced by another version, or clean up.

mod make_run;
mod rolling_stops;
mod secret_files;
mod sweeper;
mod versions;
mod worker_shutdown;
