//! Spoken words made by formant synthesis (Klatt, 1980): a buzzing or hissing source through resonances that
//! glide from sound to sound, by speakers of any pitch, size and pace.

use lazul::prelude::*;

/// Samples in a second.
pub const RATE: usize = 8_000;

/// What is said.
pub const WORDS: [&str; 10] =
    ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"];

/// A sound: three resonances in hertz, how much it buzzes and hisses, where the hiss is, and milliseconds.
struct Sound {
    formants: [f32; 3],
    buzz: f32,
    hiss: f32,
    centre: f32,
    length: f32,
}

fn sound(letter: char) -> Sound {
    let voiced = |f1, f2, f3, length| Sound {
        formants: [f1, f2, f3],
        buzz: 1.0,
        hiss: 0.0,
        centre: 3000.0,
        length,
    };
    let hissed = |centre, hiss, length| Sound {
        formants: [400.0, 1600.0, 2600.0],
        buzz: 0.0,
        hiss,
        centre,
        length,
    };
    match letter {
        'j' => voiced(280.0, 2200.0, 3000.0, 80.0),
        'e' => voiced(550.0, 1850.0, 2500.0, 130.0),
        'a' => voiced(730.0, 1150.0, 2450.0, 130.0),
        'A' => voiced(620.0, 1200.0, 2500.0, 120.0),
        'o' => voiced(560.0, 900.0, 2450.0, 150.0),
        'O' => voiced(640.0, 960.0, 2450.0, 150.0),
        'u' => voiced(330.0, 900.0, 2250.0, 110.0),
        'i' => voiced(300.0, 2250.0, 2950.0, 110.0),
        'l' => voiced(360.0, 1100.0, 2700.0, 70.0),
        'r' => voiced(350.0, 1150.0, 1600.0, 80.0),
        'n' => Sound { buzz: 0.45, ..voiced(260.0, 1500.0, 2400.0, 100.0) },
        'd' => Sound { buzz: 0.25, ..voiced(220.0, 1700.0, 2600.0, 40.0) },
        'g' => Sound { buzz: 0.25, ..voiced(220.0, 2000.0, 2300.0, 45.0) },
        's' => hissed(3600.0, 0.6, 140.0),
        'f' => hissed(2300.0, 0.25, 130.0),
        't' => hissed(3300.0, 0.7, 25.0),
        'p' => hissed(900.0, 0.5, 20.0),
        // The silence before a sound breaks out.
        _ => hissed(1000.0, 0.0, 60.0),
    }
}

/// The sounds of a word; `_` is a short silence.
fn spelled(word: usize) -> &'static str {
    ["jes", "nou", "A_p", "daun", "lef_t", "rai_t", "On", "Of", "s_tO_p", "gou"][word]
}

/// A resonance as a filter of two poles, of gain 1 at its peak or so.
#[derive(Default)]
struct Resonance {
    before: [f32; 2],
}

impl Resonance {
    fn pass(&mut self, x: f32, frequency: f32, width: f32) -> f32 {
        let tau = std::f32::consts::TAU / RATE as f32;
        let r = (-tau * width / 2.0).exp();
        let c = 2.0 * r * (tau * frequency).cos();
        let y = x * (1.0 - c + r * r) + c * self.before[0] - r * r * self.before[1];
        self.before = [y, self.before[0]];
        y
    }
}

/// One second of a word. `d` are numbers from 0 to 1: who speaks, and how; `noise` is a second of noise.
fn spoken(word: usize, d: &[f32], noise: &[f32]) -> Vec<f32> {
    let (pitch, size, pace) = (90.0 + 130.0 * d[0], 0.88 + 0.28 * d[1], 0.8 + 0.45 * d[2]);
    let sounds: Vec<Sound> = spelled(word).chars().map(sound).collect();
    let samples = |ms: f32| ms * pace * RATE as f32 / 1000.0;
    let all: f32 = sounds.iter().map(|s| samples(s.length)).sum();
    let begin = (RATE as f32 - all).max(0.0) * (0.1 + 0.6 * d[3]);
    let mut wave = vec![0f32; RATE];
    let mut tract: [Resonance; 3] = Default::default();
    let mut mouth = Resonance::default();
    // Where the word is: the sound, and how far through it.
    let (mut now, mut done, mut phase) = (0, 0.0, 0.0);
    let (mut buzz, mut hiss) = (0.0f32, 0.0f32);
    let mut formants = sounds[0].formants;
    for (i, out) in wave.iter_mut().enumerate().skip(begin as usize) {
        done += 1.0;
        while now < sounds.len() && done > samples(sounds[now].length) {
            done -= samples(sounds[now].length);
            now += 1;
        }
        let target = sounds.get(now);
        // Everything glides: resonances in some 25 ms, loudness in 8.
        let glide = |from: f32, to: f32, ms: f32| from + (to - from) / (ms * RATE as f32 / 1000.0);
        buzz = glide(buzz, target.map_or(0.0, |s| s.buzz), 8.0);
        hiss = glide(hiss, target.map_or(0.0, |s| s.hiss), 5.0);
        if let Some(s) = target {
            for (f, to) in formants.iter_mut().zip(s.formants) {
                *f = glide(*f, to, 25.0);
            }
        }
        let along = (i as f32 - begin) / all.max(1.0);
        phase += pitch * (1.1 - 0.25 * along) / RATE as f32;
        let pulse = if phase >= 1.0 { 8.0 } else { -0.1 };
        phase -= phase.floor();
        let mut voice = pulse * buzz + noise[i] * buzz * 0.05;
        for (k, (resonance, f)) in tract.iter_mut().zip(formants).enumerate() {
            voice = resonance.pass(voice, f * size, 70.0 + 40.0 * k as f32) * [1.0, 2.2, 2.2][k];
        }
        let centre = target.map_or(3000.0, |s| s.centre);
        *out = voice + mouth.pass(noise[i] * hiss, centre, 900.0);
    }
    let loud = wave.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    let (gain, hum) = (0.3 + 0.7 * d[4], 0.002 + 0.02 * d[5]);
    wave.iter().zip(noise).map(|(x, n)| x / loud * gain + n * hum).collect()
}

/// `n` words as waves `(n, RATE)`, and which they are `(n)`.
pub fn said(n: usize, seed: u64) -> lazul::Result<(Array, Array)> {
    let keys = random::split(&random::key(seed), 2);
    let draws = random::uniform(0.0, 1.0, [n, 7], DType::F32, Some(&keys.at_index(0, 0)));
    let draws = draws.to_vec::<f32>()?;
    let mut labels = Vec::new();
    let mut waves = Vec::with_capacity(n * RATE);
    for (i, d) in draws.chunks(7).enumerate() {
        let word = ((d[6] * WORDS.len() as f32) as usize).min(WORDS.len() - 1);
        let key = random::key(seed.wrapping_mul(1_000_003).wrapping_add(i as u64));
        let noise = random::normal([RATE], DType::F32, Some(&key)).to_vec::<f32>()?;
        labels.push(word as i32);
        waves.extend(spoken(word, d, &noise));
    }
    Ok((Array::from_slice(&waves, [n, RATE]), Array::from_slice(&labels, [n])))
}
