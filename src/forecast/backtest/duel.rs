//! Compares a network with the one that it is to replace: champion and challenger.

use super::{Line, Op};

/// How much the challenger's network loses, over what the champion's does: the geometric mean over all
/// panels, operations and targets that both were scored on; `None` if there are none.
///
/// `pairs` are the lines of a panel each: the challenger's, and the champion's of the same panel.
pub fn duel<'a>(pairs: impl IntoIterator<Item = (&'a [Line], &'a [Line])>) -> Option<f64> {
    let scored = |line: &&Line| line.model == "network" && line.op != Op::All && 0.0 < line.wql;
    let logs_of = |(challenger, champion): (&'a [Line], &'a [Line])| {
        let log = move |line: &Line| {
            let same = |it: &&Line| scored(it) && (it.op, &it.target) == (line.op, &line.target);
            Some(libm::log(line.wql / champion.iter().find(same)?.wql))
        };
        challenger.iter().filter(scored).filter_map(log)
    };
    let logs: Vec<f64> = pairs.into_iter().flat_map(logs_of).collect();
    (!logs.is_empty()).then(|| libm::exp(logs.iter().sum::<f64>() / logs.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(op: Op, target: &str, model: &str, wql: f64) -> Line {
        Line {
            panel: "p".into(),
            op,
            target: target.into(),
            model: model.into(),
            wql,
            skill: 0.0,
            relmae: 1.0,
            cover80: 0.8,
            cover90: 0.9,
            exceed99: 0.01,
            floor: None,
            suspected_leak: false,
            buckets: Vec::new(),
        }
    }

    #[test]
    fn loss_is_compared_where_both_were_scored() {
        let champion = [
            line(Op::Read, "h1", "network", 0.2),
            line(Op::Write, "h1", "network", 0.1),
            line(Op::All, "h1", "network", 9.0),
            line(Op::Read, "h6", "linear", 9.0),
            line(Op::Read, "h30", "network", 0.0),
        ];
        let challenger = [
            line(Op::Read, "h1", "network", 0.4),
            line(Op::Write, "h1", "network", 0.8),
            line(Op::All, "h1", "network", 1.0),
            line(Op::Read, "h6", "network", 1.0),
            line(Op::Read, "h30", "network", 1.0),
        ];
        let ratio = duel([(&challenger[..], &champion[..])]).unwrap();
        assert!((ratio - 4.0).abs() < 1e-12, "the mean of 2 and 8 is 4, and not {ratio}");
        assert_eq!(duel([(&champion[..], &champion[..])]), Some(1.0));
        assert_eq!(duel([(&challenger[3..], &champion[..])]), None);
        // Panels of one name are not mixed up.
        let other = [line(Op::Read, "h1", "network", 0.1)];
        let ratio = duel([(&other[..], &other[..]), (&champion[..1], &champion[..1])]);
        assert_eq!(ratio, Some(1.0));
    }
}
