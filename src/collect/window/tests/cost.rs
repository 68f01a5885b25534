//! What collecting costs in requests.
