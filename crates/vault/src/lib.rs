//! mildam-vault
