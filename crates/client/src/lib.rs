//! mildam-client
