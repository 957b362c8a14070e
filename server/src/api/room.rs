//! Room for what is answered: a service claims it as soon as it holds something large, and the claim
//! goes with the response until all of it was sent.

use prost::Message;
use tonic::{Response, Status};

use crate::budget::{self, Claim};
use crate::limits;
use crate::unsent::{self, Claimed};

/// Makes room for what an answer takes. What is small is bounded by the number of calls.
pub fn make(claim: &mut Claim, bytes: usize) -> Result<(), Status> {
    match bytes {
        0..=limits::ANSWER_PIECE_BYTES => Ok(()),
        bytes => Ok(unsent::grow(claim, bytes)?),
    }
}

pub fn claimed<T>(message: T, claim: Claim) -> Response<T> {
    let mut response = Response::new(message);
    if claim.size() > 0 {
        response.extensions_mut().insert(Claimed::new(claim));
    }
    response
}

/// A response that was made at once.
pub fn counted<T: Message>(message: T) -> Result<Response<T>, Status> {
    let mut claim = budget::ANSWERS.claim();
    make(&mut claim, message.encoded_len())?;
    Ok(claimed(message, claim))
}
