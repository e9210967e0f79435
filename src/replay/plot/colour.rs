//! Says which colours a picture has: ones that people can tell apart who see fewer of them.

/// Nodes: Paul Tol's bright scheme, in an order in which neighbours differ in lightness too.
const NODES: [&str; 7] =
    ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999"];

/// Heat: dark to light, as matplotlib's inferno is.
const INFERNO: [[u8; 3]; 10] = [
    [0, 0, 4],
    [27, 12, 65],
    [74, 12, 107],
    [120, 28, 109],
    [165, 44, 96],
    [207, 68, 70],
    [237, 105, 37],
    [251, 155, 6],
    [247, 209, 61],
    [252, 255, 164],
];

/// The colour of a node by its number. Beyond seven they begin again.
pub fn node(number: usize) -> &'static str {
    NODES[number % NODES.len()]
}

/// The colour of a part of the scale, from 0 to 1.
pub fn heat(part: f64) -> String {
    let at = part.clamp(0.0, 1.0) * (INFERNO.len() - 1) as f64;
    let below = (at as usize).min(INFERNO.len() - 2);
    let mix = |i: usize| {
        let [low, high] = [INFERNO[below][i], INFERNO[below + 1][i]].map(f64::from);
        (low + (high - low) * (at - below as f64)).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}
