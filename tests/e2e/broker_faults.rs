//! Dropped, delayed or refused messages, and a failing broker.

mod acknowledgements;
mod chaos;
mod concurrency;
mod delivery;
mod outages;
mod replicas;
mod submission;
