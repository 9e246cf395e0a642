use lazul_ir::Job;
pub(crate) fn softmax(_job: &Job<'_>) { panic!() }
pub(crate) fn logsumexp(_job: &Job<'_>) { panic!() }
