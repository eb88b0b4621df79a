//! mildam-protocol
