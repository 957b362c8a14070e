//! Locks and elections, which the server plays for clients that have no library for them.
//!
//! Both are a queue of keys under a prefix. A client's key is `<name>/<its lease in hex>`; whose key was
//! created first holds the lock or leads, the others wait until all older keys are gone. A lease that
//! ends takes its key along. Nothing here is state: other clients may read and delete the keys, and
//! etcd's own libraries take part in the same queue.
//!
//! A call asks the other services in the name of its client, so it may what the client may. A client that
//! gives up while it waits leaves the queue: nobody would know of its key.

mod caller;
mod election;
mod lock;
mod queue;

pub use caller::Caller;
pub use election::Election;
pub use lock::Lock;
