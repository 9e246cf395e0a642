//! Lazul's files: safetensors, npy and npz, model folders, the hub cache.
