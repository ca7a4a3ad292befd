//! The command `wordmill`.

mod count;
mod jobs;
mod server;
