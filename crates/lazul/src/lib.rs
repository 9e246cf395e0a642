//! Lazul: an array framework for machine learning. Lazy arrays, composable transforms, language models.
