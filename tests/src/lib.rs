//! mildam-tests
