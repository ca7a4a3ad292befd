//! Tests of the memory that the services take.

mod bodies;
mod connections;
mod dead_letters;
mod decoders;
mod documents;
mod results;
mod waiting;
