//! The queue: lanes, backpressure and its status.

mod backpressure;
mod lanes;
mod status;
