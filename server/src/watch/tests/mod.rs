//! Tests of the hub: its parts on their own, and the whole against a model of the store.

mod hub;
mod index;
pub(crate) mod model;
mod ring;
