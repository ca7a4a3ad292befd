//! Dropped, delayed or refused messages, and broker failures.

mod acknowledgements;
mod chaos;
mod concurrency;
mod delivery;
mod outages;
mod replicas;
mod submission;
