//! Lost, late or refused messages, and a broker that fails.

mod acknowledgements;
mod chaos;
mod concurrency;
mod delivery;
mod outages;
mod replicas;
mod submission;
