//! The engine as a whole, through its front door: a file for each behaviour. No broker, no ports, no fixed paths.

mod hello;
