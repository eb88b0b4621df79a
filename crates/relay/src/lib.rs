//! mildam-relay
