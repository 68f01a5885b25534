//! Behaviour seen from outside: real parts, real files, the portal played over HTTP.

mod crash;
mod support;
