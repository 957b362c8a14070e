//! Wire and log messages: etcd's v3 API, what members say to each other, what goes into the log.
//!
//! Prost messages are the domain types for requests, responses and events everywhere in kvd. One
//! message is not generated: a key-value pair travels as [`EncodedKeyValue`], the bytes that were
//! encoded once when it was written, so that ranges, watches and snapshots only copy them.
//! Features `client` and `server` add the tonic stubs of that side.

#[cfg(any(feature = "client", feature = "server"))]
pub mod codec;
mod key_value;

pub use key_value::{EncodedKeyValue, KeyValue};

/// A `FileDescriptorSet` of all `.proto` files: what there is, for those who learn it at run time.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A method of a service that clients call.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// As requests name it: `/etcdserverpb.KV/Range`.
    pub path: &'static str,
    pub kind: MethodKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    Unary,
    ServerStream,
    BidiStream,
}

/// All of them, in the order of the `.proto` files, for whoever must not forget one.
pub const METHODS: &[Method] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// Includes the module that prost generated for a package.
macro_rules! package {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

// The generated code is not ours to lint.
#[allow(clippy::all, clippy::too_many_lines, unreachable_pub, unused_qualifications)]
mod generated {
    pub mod authpb {
        package!("authpb");
    }
    pub mod mvccpb {
        package!("mvccpb");
    }
    pub mod etcdserverpb {
        package!("etcdserverpb");
    }
    pub mod v3lockpb {
        package!("v3lockpb");
    }
    pub mod v3electionpb {
        package!("v3electionpb");
    }
    pub mod healthpb {
        package!("grpc.health.v1");
    }
    pub mod kvd {
        pub mod internal {
            package!("kvd.internal");
        }
        pub mod peer {
            package!("kvd.peer");
        }
    }
}

pub use generated::kvd::{internal, peer};
pub use generated::{authpb, etcdserverpb, healthpb, mvccpb, v3electionpb, v3lockpb};

impl From<internal::command::Op> for internal::Command {
    fn from(op: internal::command::Op) -> Self {
        Self { op: Some(op), ..Self::default() }
    }
}
