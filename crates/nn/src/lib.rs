//! Lazul's neural-network modules and layers.
