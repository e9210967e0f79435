//! Another network comes: when it answers, and what is refused.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::operator_command::{Command, OperatorCommand};

use super::by_hand::Desk;
use crate::forecast::Rung;
use crate::forecast::gru::Weights;
use crate::forecast::model::Model;
use crate::planner::settings::Settings;

/// A network that says something else for each seed.
pub(super) fn model(seed: u64) -> Model {
    let random = &mut Pcg64::seed_from_u64(seed);
    let mut weights = Weights::untrained(random);
    weights.0[6].iter_mut().for_each(|it| *it = random.random_range(-0.2..0.2));
    Model::new((weights, Default::default()), seed, 1, Vec::new())
}

pub(super) fn swap(id: &str, model: Option<Vec<u8>>) -> OperatorCommand {
    OperatorCommand {
        model,
        ..OperatorCommand::new(id.into(), Command::SwapModel, "me".into(), "it loses less".into())
    }
}

/// The code of what was refused, and the text of the answer.
fn asked(desk: &mut Desk, commands: &[OperatorCommand]) -> Vec<(String, String)> {
    let answers = desk.ask(false, commands).into_iter();
    answers.map(|it| (it.refused.unwrap_or_default(), it.detail)).collect()
}

/// What the driver does between ticks.
fn go_on(desk: &mut Desk) {
    let network = desk.planner.network();
    desk.planner.forecasts_by(network);
}

#[test]
fn network_answers_from_the_next_tick_on_and_its_policy_brings_it() {
    let mut desk = Desk::with(|it| it.rung = Rung::Ladder);
    let (one, before) = (model(1), desk.tick(false, vec![]).done);
    assert_eq!(before.policy, None, "nothing has changed");
    let answers = asked(&mut desk, &[swap("c-1", Some(one.encode()))]);
    assert_eq!(answers[0].0, "", "{answers:?}");
    assert!(answers[0].1.contains(one.digest()), "{answers:?}");
    assert_eq!(desk.planner.settings().network, None, "not within the tick");
    go_on(&mut desk);
    let done = desk.tick(false, vec![]).done;
    assert_ne!(done.policy_digest, before.policy_digest);
    let settings = Settings::parse(&done.policy.unwrap()).unwrap();
    assert!(settings.model() == one, "{}", settings.model().digest());
    go_on(&mut desk);
    assert_eq!(desk.tick(false, vec![]).done.policy, None, "it is told once");

    // Back to the one that is built in.
    assert_eq!(asked(&mut desk, &[swap("c-2", Some(Vec::new()))])[0].0, "");
    go_on(&mut desk);
    assert_eq!(desk.planner.settings().network, None);
    assert_eq!(desk.planner.state().next_network, None);
}

#[test]
fn what_is_no_other_network_is_refused() {
    let mut desk = Desk::with(|it| it.rung = Rung::Ladder);
    let check = |desk: &mut Desk, model: Option<Vec<u8>>, code: &str| {
        let id = format!("c-{code}-{:?}", model.as_ref().map(Vec::len));
        let answers = asked(desk, &[swap(&id, model)]);
        assert_eq!(answers[0].0, code, "{answers:?}");
        assert!(!answers[0].1.is_empty(), "{answers:?}");
    };
    check(&mut desk, None, "incomplete");
    check(&mut desk, Some(vec![0; (256 << 10) + 1]), "incomplete");
    check(&mut desk, Some(b"{}\n".to_vec()), "no_model");
    check(&mut desk, Some(Model::shipped().encode()), "model_there");
    check(&mut desk, Some(Vec::new()), "model_there");
    let mut flipped = model(1).encode();
    *flipped.last_mut().unwrap() ^= 1;
    check(&mut desk, Some(flipped), "no_model");
    // Of two that wait the later one counts, and one that is to come is there.
    let two = [swap("c-1", Some(model(1).encode())), swap("c-2", Some(model(2).encode()))];
    let codes = asked(&mut desk, &two);
    assert_eq!(codes.iter().map(|it| &*it.0).collect::<Vec<_>>(), ["incomplete", ""]);
    check(&mut desk, Some(model(2).encode()), "model_there");
    go_on(&mut desk);
    assert_eq!(desk.planner.settings().model().digest(), model(2).digest());

    let mut desk = Desk::with(|it| it.rung = Rung::Ewma);
    check(&mut desk, Some(model(1).encode()), "no_network");
    go_on(&mut desk);
    assert_eq!(desk.planner.settings().network, None);
}
