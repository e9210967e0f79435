//! Stores and names of nodes that do not belong together.

use schemas::node_capacity::NodeCapacity;

use super::*;

#[test]
fn store_of_another_node_and_a_name_that_is_used_twice_are_refused_with_a_remedy() {
    let Some(mut play) = Play::create("worker-identity") else { return };
    play.rows(keys());
    let [a, b, _channel] = play.begin();
    await_that("a report", || {
        let all = play.world.values::<NodeCapacity>();
        all.iter().any(|it| it.node_id.0 == "a").then_some(())
    });
    let endpoint = format!("127.0.0.1:{}", a.port());

    // The same name, and the same store.
    let args = ["worker", "--dir", "data", "--node-id", "a"];
    check_refused(&play.world, "twin", &args, &["data/a is in use by another process"]);
    // The same name, and another store.
    let args = ["worker", "--dir", "elsewhere", "--node-id", "a"];
    let parts = ["another worker is node a already", &endpoint, "give this one another --node-id"];
    check_refused(&play.world, "second", &args, &parts);
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");

    // A store that was made under another name.
    b.kill();
    let data = play.world.folder.path().join("data");
    std::fs::rename(data.join("b"), data.join("c")).unwrap();
    let args = ["worker", "--dir", "data", "--node-id", "c"];
    let parts = ["is of node b, not of c", "give each node a folder of its own"];
    check_refused(&play.world, "stolen", &args, &parts);
    assert!(play.world.values::<NodeCapacity>().iter().all(|it| it.node_id.0 != "c"));
    std::fs::rename(data.join("c"), data.join("b")).unwrap();
    let b = play.worker("b");
    assert_eq!(play.await_read(&b, "z1", 1), "of z1");
    play.check_verified();
}

#[test]
fn of_two_that_begin_at_once_under_one_name_one_ends_and_names_the_other() {
    let Some(play) = Play::create("worker-twins") else { return };
    let start = |dir: &'static str| {
        play.world.start(dir, &["worker", "--dir", dir, "--node-id", "a"], None)
    };
    let mut twins = [start("here"), start("there")];
    let one = await_that("the end of one", || twins.iter_mut().position(Process::has_ended));
    let [here, there] = twins;
    let (ended, other) = if one == 0 { (here, there) } else { (there, here) };
    let log = ended.log_path();
    assert_eq!(ended.ended().code(), Some(1));
    let told = bare(&std::fs::read_to_string(log).unwrap());
    let endpoint = format!("127.0.0.1:{}", other.port());
    assert!(told.contains("anotherworkerisnodeaalready") && told.contains(&endpoint), "{told}");
    await_waiting(&other);
    other.signal("-TERM");
    assert!(other.ended().success());
}

#[test]
fn r24_store_is_refused_where_table_is_parted_otherwise_than_when_it_began() {
    let Some(mut play) = Play::create("worker-parted") else { return };
    play.world.leave();
    let reports = || play.world.values::<NodeCapacity>().len();
    let a = play.worker("a");
    await_that("a report", || (0 < reports()).then_some(()));
    a.kill();
    let Some(other) = World::create("worker-parted-more", &[("table", "partitions", "9")]) else {
        return;
    };
    let data = |world: &World| world.folder.path().join("data");
    std::fs::rename(data(&play.world), data(&other)).unwrap();
    let args = ["worker", "--dir", "data", "--node-id", "a"];
    let parts = ["table has 9 partitions, and had 1 when the store of node a", "kafka.prefix"];
    check_refused(&other, "parted", &args, &parts);
    // Where it is as it was, the same store goes on.
    std::fs::rename(data(&other), data(&play.world)).unwrap();
    let before = reports();
    let _a = play.worker("a");
    await_that("another report", || (before < reports()).then_some(()));
}

#[test]
fn worker_that_nobody_could_find_does_not_start() {
    let Some(play) = Play::create("worker-nowhere") else { return };
    let args = ["worker", "--dir", "data", "--node-id", "a", "--listen", "0.0.0.0:0"];
    let remedy = "set it to HOST:PORT, by which others find this node";
    crate::moved::check(&play.world, &args, isotherm::cli::exit::Exit::Usage, remedy);
}

fn check_refused(world: &World, name: &str, args: &[&str], parts: &[&str]) {
    let refused = world.start(name, args, None);
    let log = refused.log_path();
    assert_eq!(refused.ended().code(), Some(1), "{args:?}");
    let told = std::fs::read_to_string(log).unwrap();
    for part in parts {
        assert!(bare(&told).contains(&bare(part)), "{part} is not in {told}");
    }
}
