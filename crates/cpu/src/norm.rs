use lazul_ir::Job;
pub(crate) fn rms_norm(_e: f32, _job: &Job<'_>) { panic!() }
pub(crate) fn layer_norm(_e: f32, _w: bool, _b: bool, _job: &Job<'_>) { panic!() }
