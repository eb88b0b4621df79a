//! mildam-e2ee
