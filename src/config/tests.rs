use std::path::PathBuf;

use expect_test::{Expect, expect};
use layers::{ConfigError, Sources};
use miette::Diagnostic;

use super::*;

/// Loads a file with this text under these variables and flags.
fn load(
    text: &str,
    env: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Result<layers::Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("isotherm.toml"), text).unwrap();
    let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let flags = flags.iter().map(|(flag, key, value)| (*flag, *key, value.to_string())).collect();
    let named = vec![dir.path().join("isotherm.toml")];
    Sources { files: vec![PathBuf::from("not-there.toml")], named, env, flags }.load()
}

/// What a person is told about a file that cannot be used, with the path of the file taken out.
fn check(text: &str, told: Expect) {
    let error = load(text, &[], &[]).unwrap_err();
    let problems = error.problems.iter().map(|it| {
        let file = it.origin.rsplit('/').next().unwrap();
        format!("{} {} ({file}): {}\n  {}\n", it.code, it.key, it.reason, it.remedy)
    });
    told.assert_eq(&problems.collect::<String>());
}

#[test]
fn higher_layers_win_and_are_named() {
    let text = "[planner]\ntick = '1s'\nmode = 'observe'\nid = 'a'\n[policy]\nwarm_permille = 700";
    let env =
        [("ISOTHERM__PLANNER__ID", "7"), ("ISOTHERM__POLICY__RANGES_MAX", "9"), ("HOME", "x")];
    let loaded = load(text, &env, &[("--mode", "planner.mode", "auto")]).unwrap();
    let origin = |key: &str| {
        let it = loaded.settings.iter().find(|it| it.key == key).unwrap();
        (it.value.clone(), it.origin.rsplit('/').next().unwrap().to_owned())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(origin("planner.tick"), pair("\"1s\"", "isotherm.toml"));
    assert_eq!(origin("planner.id"), pair("\"7\"", "ISOTHERM__PLANNER__ID"));
    assert_eq!(origin("planner.mode"), pair("\"auto\"", "--mode"));
    assert_eq!(origin("policy.ranges_max"), pair("9", "ISOTHERM__POLICY__RANGES_MAX"));
    assert_eq!(origin("planner.grace"), pair("\"300ms\"", "default"));
    let config = loaded.clone().into_config().unwrap();
    assert_eq!(config.planner.tick, Duration::from_secs(1));
    assert_eq!((config.planner.id.as_str(), config.planner.mode), ("7", Mode::Auto));
    assert_eq!((config.policy.ranges_max, config.policy.warm_permille), (9, 700));
}

#[test]
fn what_has_no_default_can_be_set_in_every_layer() {
    let of = |text: &str, env: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]| {
        let worker = load(text, env, flags).unwrap().into_config().unwrap().worker;
        (worker.endpoint, worker.inbox, worker.capacity_us_per_s, worker.io_bytes_per_s)
    };
    assert_eq!(of("", &[], &[]), (None, None, None, None));
    let text = "[worker]\nendpoint = 'h:1'\ninbox = 3\ncapacity_us_per_s = 5\nio_bytes_per_s = 7";
    assert_eq!(of(text, &[], &[]), (Some("h:1".into()), Some(3), Some(5), Some(7)));
    let env = [("ISOTHERM__WORKER__ENDPOINT", "w-1:7070"), ("ISOTHERM__WORKER__INBOX", "0")];
    let flags = [("--capacity", "worker.capacity_us_per_s", "75000")];
    assert_eq!(of("", &env, &flags), (Some("w-1:7070".into()), Some(0), Some(75_000), None));
    let settings = load("", &[], &[]).unwrap().settings;
    let setting = settings.iter().find(|it| it.key == "worker.endpoint").unwrap();
    assert_eq!((&setting.value[..], &setting.origin[..]), ("", "default"));
    let error = load("", &[("ISOTHERM__WORKER__INBOX", "first")], &[]).unwrap_err();
    assert_eq!(error.problems[0].key, "worker.inbox");
}

#[test]
fn unknown_keys_are_told_all_at_once_with_what_was_meant() {
    check(
        "[planner]\ntik = '1s'\nwarm_permille = 3\n[kafak]\nprefix = 'x'\n[costs]\nzzz = 1\n[zzz]\na = 1",
        expect![[r#"
            unknown_key costs.zzz (isotherm.toml): there is no such key
              [costs] has read_us, scan_us, write_us
            unknown_key kafak (isotherm.toml): there is no such key
              did you mean `kafka`?
            unknown_key planner.tik (isotherm.toml): there is no such key
              did you mean `planner.tick`?
            unknown_key planner.warm_permille (isotherm.toml): there is no such key
              did you mean `policy.warm_permille`?
            unknown_key zzz (isotherm.toml): there is no such key
              there are the sections channel, costs, kafka, load, planner, policy, query_log, router, schema_registry, table, worker
        "#]],
    );
    let env = [("ISOTHERM__PLANER__TICK", "1s")];
    let error = load("", &env, &[]).unwrap_err();
    assert_eq!(error.problems[0].origin, "ISOTHERM__PLANER__TICK");
    assert_eq!(error.code().unwrap().to_string(), "isotherm::config::unknown_key");
}

#[test]
fn values_that_cannot_be_used_name_key_reason_and_remedy() {
    check(
        "[planner]\nmode = 'recommend'\ntick = '1500us'\nbirth_nodes = 0\nsplit_points = ['b', 'a']",
        expect![[r#"
            value planner.tick (isotherm.toml): a tick is a whole number of milliseconds, at least 100 of them
              set it to `5s`, or to `1s` for a demonstration
            value planner.mode (isotherm.toml): `recommend` needs somebody who approves plans, and this version cannot take approvals
              set it to `observe`, and read the plans of a replay; or to `auto`
            value planner.birth_nodes (isotherm.toml): it must be at least 1
              leave it out for the default
            value planner.split_points (isotherm.toml): they must ascend, and none may be empty: the first range begins before the first of them
              sort them, without duplicates
        "#]],
    );
    check(
        "[table]\nformat = 'envelope'\nschema_ids = ['orders.avsc']\n[channel]\ngroup = ''",
        expect![[r#"
            value channel.group (isotherm.toml): a channel needs a group
              set it to `channel`
            value table.key (default): of an envelope, the fields that make the index key must be known
              set it to the paths of fields, such as `["city", "address.zip"]`
            value table.schema_ids (isotherm.toml): each is the id of a schema, `=`, and the file of it
              set it to `["17=orders.avsc"]`
        "#]],
    );
    check(
        "[table]\nkey = ['city']\n[channel]\nwatermark_every = '1ms'",
        expect![[r#"
        value channel.watermark_every (isotherm.toml): each of them is a record for every node, so 10ms is the least
          set it to `1s`
        value table.key (isotherm.toml): records of the format `row_changed` have their key and payload already
          take table.key and table.payload out, or set table.format to `envelope`
    "#]],
    );
    check(
        "[router]\nreads_waiting_max = 10\nworker_requests_max = 0\ndeadline = '0s'",
        expect![[r#"
            value router.worker_requests_max (isotherm.toml): it must be at least 1
              leave it out for the default
            value router.reads_waiting_max (isotherm.toml): a batch of router.batch_reads_max reads could never be taken
              leave it out for the default
            value router.deadline (isotherm.toml): every read would be late
              set it to `30s`
        "#]],
    );
    check(
        "[query_log]\nschema = 'x.avsc'\nkey = ['a', 'b..c']\nops = ['GET']\nop = ''\n\
         [schema_registry]\npassword = 'p'",
        expect![[r#"
            value query_log.schema (isotherm.toml): a schema is given, and query_log.format is not of Avro
              set query_log.format to `avro` or `auto`, or take the schema out
            value query_log.key_encoding (default): several fields make a key only as `table.key` does
              set it to `index`, or query_log.key to one field
            value query_log.key (isotherm.toml): a path of this section has a name that is empty
              put one dot between two names, and none at the ends
            value query_log.ops (isotherm.toml): each is what a log says, `=`, and READ, SCAN or WRITE
              set it to `["GET=READ", "RANGE=SCAN", "PUT=WRITE"]`
            value query_log.op_default (default): neither the field of the operation nor a default is known
              set it to `READ`, or query_log.op to the path of that field
            value schema_registry.user (default): a password is given, and no user
              set it; of a token or an API key, the key is the user and its secret the password
        "#]],
    );
    check(
        "[query_log]\nformat = 'avro'\nkey = []\nop_default = 'GET'\ntime_unit = 'hours'",
        expect![[r#"
            type query_log.time_unit (isotherm.toml): it should be one of nanos, micros, millis, seconds, and is "hours"
              correct it, or leave it out for the default, "millis"
        "#]],
    );
    check(
        "[query_log]\nformat = 'avro'\nkey = []\nop_default = 'GET'\nitem = 'x'",
        expect![[r#"
            unknown_key query_log.item (isotherm.toml): there is no such key
              did you mean `query_log.items`?
        "#]],
    );
    check(
        "[query_log]\nformat = 'avro'\nkey = []\nop_default = 'GET'",
        expect![[r#"
            value query_log.format (isotherm.toml): of Avro, the schema of the writer must be known
              set schema_registry.url, or query_log.schema to a file
            value query_log.key (isotherm.toml): the field that is the key must be known
              set it to its path, such as `["key"]` or `["request.key"]`
            value query_log.op_default (isotherm.toml): it is none of READ, SCAN and WRITE
              set it to `READ`, or to an empty text if what query_log.ops does not name is not to count
        "#]],
    );
    check(
        "[planner]\ntick = 'soon'",
        expect![[r#"
            type planner.tick (isotherm.toml): `soon` is no duration such as `5s` or `300ms`: expected number at 0
              correct it, or leave it out for the default, "5s"
        "#]],
    );
    check(
        "[policy]\nranges_max = -4",
        expect![[r#"
            type policy.ranges_max (isotherm.toml): it should be a whole number from 0 to 4294967295, such as 100000, and is -4
              correct it, or leave it out for the default, 100000
        "#]],
    );
    let error = load("[planner\n", &[], &[]).unwrap_err();
    assert_eq!(error.problems[0].code, "syntax");
}

#[test]
fn value_of_another_type_is_told_what_it_should_be_in_words() {
    let check = |text: &str, flag: (&'static str, &'static str, &str), told: &str| {
        let error = load(text, &[], &[flag]).unwrap_err();
        let [it] = &error.problems[..] else { panic!("{error}") };
        assert_eq!(format!("{} ({}): {}\n{}", it.key, it.origin, it.reason, it.remedy), told);
    };
    let memory = ("--memory", "worker.memory_bytes", "512MiB");
    check(
        "",
        memory,
        "worker.memory_bytes (--memory): it should be bytes as a whole number, such as 536870912, and is \
         \"512MiB\"\ncorrect it, or leave it out for the default, 536870912",
    );
    let listen = ("--listen", "worker.listen", "7081");
    check(
        "",
        listen,
        "worker.listen (--listen): it should be ADDRESS:PORT, such as 127.0.0.1:7074, and is \
         \"7081\"\ncorrect it, or leave it out for the default, \"127.0.0.1:7074\"",
    );
    let forecast = ("--forecast", "planner.forecast", "gru");
    check(
        "",
        forecast,
        "planner.forecast (--forecast): it should be one of persistence, ewma, ladder, and is \
         \"gru\"\ncorrect it, or leave it out for the default, \"ladder\"",
    );
    let fine = ("--id", "planner.id", "a");
    let of_file = |text: &str, key: &str, told: &str| {
        let error = load(text, &[], &[fine]).unwrap_err();
        let [it] = &error.problems[..] else { panic!("{error}") };
        assert_eq!((it.key.as_str(), it.reason.as_str()), (key, told));
    };
    let told = "it should be ADDRESS:PORT, such as 127.0.0.1:7073, and is 7081";
    of_file("[router]\nlisten = 7081", "router.listen", told);
    let told = "it should be a duration, such as \"30s\", and is 5";
    of_file("[router]\ndeadline = 5", "router.deadline", told);
    let told = "it should be a whole number from 0 to 4294967295, and is \"first\"";
    of_file("[worker]\ninbox = 'first'", "worker.inbox", told);
    let told = "it should be a list, such as [\"a\", \"b\"], and is \"127.0.0.1:7073\"";
    of_file("[load]\nrouters = '127.0.0.1:7073'", "load.routers", told);
    // What may be secret is not repeated.
    of_file(
        "[schema_registry]\npassword = 4711",
        "schema_registry.password",
        "it should be a text",
    );
}

#[test]
fn time_to_end_is_enough_for_what_is_under_way() {
    check(
        "[worker]\ndeadline = '10s'\nstop_within = '11999ms'\n[channel]\nstop_within = '999ms'\n\
         [router]\ndeadline = '10s'\nstop_within = '11999ms'",
        expect![[r#"
            value channel.stop_within (isotherm.toml): what is sent has to be written and committed first
              set it to `60s`
            value router.stop_within (isotherm.toml): reads that are under way may take until router.deadline, and 2s more to write
              set it to router.deadline and 2s more, or longer
            value worker.stop_within (isotherm.toml): reads that are under way may take until worker.deadline, and 2s more to write
              set it to worker.deadline and 2s more, or longer
        "#]],
    );
    let enough = "[worker]\ndeadline = '10s'\nstop_within = '12s'\n[channel]\nstop_within = '1s'\n\
                  [router]\ndeadline = '10s'\nstop_within = '12s'";
    load(enough, &[], &[]).unwrap();
}

#[test]
fn named_file_must_be_there_and_others_need_not() {
    let named = vec![PathBuf::from("not-there.toml")];
    let error = Sources { named, ..Sources::default() }.load().unwrap_err();
    assert!(error.to_string().starts_with("not-there.toml: cannot be read"), "{error}");
    let files = vec![PathBuf::from("not-there.toml")];
    let loaded = Sources { files, ..Sources::default() }.load().unwrap();
    assert_eq!(loaded.into_config().unwrap(), Config::default());
}

#[test]
fn properties_are_text_however_they_are_written() {
    let text = "[kafka.properties]\n'linger.ms' = 5\nsocket.keepalive.enable = true\n\
                [kafka.producer.properties]\n'acks' = 'all'";
    let env = [("ISOTHERM__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL")];
    let kafka = load(text, &env, &[]).unwrap().into_config().unwrap().kafka;
    let properties = kafka.properties.iter().map(|(name, value)| format!("{name}={value}"));
    assert_eq!(
        properties.collect::<Vec<_>>(),
        ["linger.ms=5", "security.protocol=SASL_SSL", "socket.keepalive.enable=true"]
    );
    assert_eq!(kafka.producer.properties["acks"], "all");
}

#[test]
fn secrets_are_filled_in_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let text = format!(
        "[kafka.properties]\n'sasl.password' = '${{file:{}}}'\n'ssl.key.password' = 'literal'\n\
         'sasl.username' = 'u-${{env:PATH}}'\n'sasl.jaas.config' = 'x ${{env:PATH}}'\n\
         [schema_registry]\nuser = 'u-${{env:PATH}}'\npassword = '${{file:{}}}'",
        file.display(),
        file.display()
    );
    let loaded = load(&text, &[], &[]).unwrap();
    let shown = |key: &str| {
        loaded.settings.iter().find(|it| it.key == key).map(|it| it.value.clone()).unwrap()
    };
    assert_eq!(
        shown("kafka.properties.sasl.password"),
        format!("\"${{file:{}}}\"", file.display())
    );
    assert_eq!(shown("kafka.properties.ssl.key.password"), "\"********\"");
    assert_eq!(shown("kafka.properties.sasl.jaas.config"), "\"********\"");
    assert_eq!(shown("kafka.properties.sasl.username"), "\"u-${env:PATH}\"");
    let literal = "[schema_registry]\nuser = 'u'\npassword = 'hunter2'";
    let literal = load(literal, &[], &[]).unwrap().settings;
    let literal = literal.iter().find(|it| it.key == "schema_registry.password").unwrap();
    assert_eq!(literal.value, "\"********\"");
    let config = loaded.into_config().unwrap();
    assert_eq!(config.schema_registry.password, "hunter2");
    assert_eq!(config.schema_registry.user, format!("u-{}", std::env::var("PATH").unwrap()));
    let properties = config.kafka.properties;
    assert_eq!(properties["sasl.password"], "hunter2");
    assert_eq!(properties["sasl.username"], format!("u-{}", std::env::var("PATH").unwrap()));
}

#[test]
fn reference_that_leads_nowhere_names_the_key() {
    let check = |value: &str, reason: &str| {
        let text = format!("[kafka.properties]\n'sasl.password' = '{value}'");
        let error = load(&text, &[], &[]).unwrap().into_config().unwrap_err();
        assert_eq!(error.problems[0].key, "kafka.properties.sasl.password");
        assert!(error.problems[0].reason.starts_with(reason), "{error}");
    };
    check("${env:ISOTHERM_NOT_SET}", "the environment has no ISOTHERM_NOT_SET");
    check("${file:/not/there}", "cannot read /not/there: ");
    check("${vault:x}", "${vault:x} is neither");
    check("${env:X", "a reference begins with ${ and has no }");
}

#[test]
fn keys_are_read_as_they_are_written() {
    for key in [&b"abc"[..], b"0x", b"0x00", &[0, 1, 255], b"", "\u{fc}".as_bytes(), b"a\n"] {
        let key = Key(key.to_vec());
        assert_eq!(key_of(&text_of_key(&key)), Ok(key));
    }
    assert!(key_of("0x123").is_err());
    assert!(key_of("0xgg").is_err());
}

#[test]
fn every_key_is_documented_with_its_default_and_no_other_is() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let docs = std::fs::read_to_string(file).unwrap();
    let row = |it: layers::Setting| match it.value.is_empty() {
        true => format!("| `{}` | not set |", it.key),
        false => format!("| `{}` | `{}` |", it.key, it.value),
    };
    let settings = Sources::default().load().unwrap().settings;
    let known: Vec<_> = settings.into_iter().map(row).collect();
    // A flag or a variable that begins a row of another table has no small letter there.
    let is_name = |it: &str| it.starts_with(|it: char| it.is_ascii_lowercase());
    let rows = docs.lines().filter(|it| it.strip_prefix("| `").is_some_and(is_name));
    let told = rows.map(|it| it.split_inclusive(" |").take(2).collect::<String>());
    let told: Vec<_> = told.collect();
    let missing: Vec<_> = known.iter().filter(|it| !told.contains(it)).collect();
    let extra: Vec<_> = told.iter().filter(|it| !known.contains(it)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:#?}, extra {extra:#?}");
    assert_eq!(told.len(), known.len(), "a key has two rows");

    let all = Value::from(dict_of(&Config::default()));
    for word in docs.lines().flat_map(|it| it.split('`').skip(1).step_by(2)) {
        let path = word.trim_matches(['[', ']']);
        let is_section = path != word && is_name(path);
        let is_key = path.split_once('.').is_some_and(|it| all.find_ref(it.0).is_some());
        assert!(!(is_section || is_key) || all.find_ref(path).is_some(), "there is no `{word}`");
    }
}
