//! Stories of one fault each.
