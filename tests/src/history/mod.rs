//! What clients asked for and were told while members were killed, paused, cut off and damaged,
//! and whether one order of everything explains it.
//!
//! A [`crowd::Crowd`] writes, reads, watches and compacts at all members, whatever happens to
//! them, and remembers every answer; values are never written twice. Between rounds of that,
//! when all is well again, [`inspect`] asks for the whole history and the present state, and the
//! [`check::Checker`] holds the round against them.
//!
//! - [`facts`]: the plain data of all that. [`model`]: the store as it should be.
//! - [`knowledge`]: what must not be unknown to whoever asks next. [`author`]: what is written.
//! - [`wire`]: between gRPC and the facts. [`trial`]: all of it, around a [`crate::Cluster`].

pub mod facts;
pub mod model;

pub mod check;

pub mod wire;

pub mod author;
pub mod crowd;
pub mod inspect;
pub mod knowledge;
pub mod trial;
