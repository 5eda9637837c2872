//! What goes over the wire, in the JSON of Chalk's public protocol: pure functions from and to bytes, without a server.

pub mod value;

pub mod request;
pub use request::OnlineRequest;

pub mod response;
pub use response::{OnlineResponse, WireError};

pub mod fault;
pub use fault::Fault;
