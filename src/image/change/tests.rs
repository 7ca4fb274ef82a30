#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn changed(instructions: &[&str]) -> Result<RunConfig, String> {
    let mut config = RunConfig {
        env: Some(vec!["PATH=/bin".into(), "A=1".into()]),
        cmd: Some(vec!["old".into()]),
        working_dir: Some("/srv".into()),
        ..RunConfig::default()
    };
    apply(&mut config, instructions).map_err(|e| e.to_string())?;
    Ok(config)
}

#[test]
fn commands_in_both_forms() {
    assert_eq!(changed(&["CMD echo $A"]).unwrap().cmd.unwrap(), ["/bin/sh", "-c", "echo $A"]);
    assert_eq!(changed(&[r#"cmd ["a", "b c"]"#]).unwrap().cmd.unwrap(), ["a", "b c"]);
    let config = changed(&[r#"ENTRYPOINT ["x"]"#]).unwrap();
    assert_eq!((config.entrypoint.unwrap(), config.cmd), (vec!["x".to_owned()], None));
    let config = changed(&["CMD new", r#"ENTRYPOINT ["x"]"#]).unwrap();
    assert_eq!(config.cmd.unwrap()[2], "new");
}

#[test]
fn environment_and_labels() {
    let env = |line: &str| changed(&[line]).unwrap().env.unwrap();
    assert_eq!(env("ENV A=2 B=x"), ["PATH=/bin", "A=2", "B=x"]);
    assert_eq!(env("ENV PATH=/x:$PATH"), ["A=1", "PATH=/x:/bin"]);
    assert_eq!(
        env(r#"ENV B="a b" C='$A' D=\$A E=${A}x F=${Z:-d} G=${A:+y} H="#)[2..],
        ["B=a b", "C=$A", "D=$A", "E=1x", "F=d", "G=y", "H="]
    );
    assert_eq!(env("ENV B a  b")[2..], ["B=a  b"]);
    let labels = changed(&[r#"LABEL a.b="1 2" c=3"#]).unwrap().labels.unwrap();
    assert_eq!(labels, [("a.b".to_owned(), "1 2".to_owned()), ("c".to_owned(), "3".to_owned())].into());
    let labels = changed(&[r#"LABEL "a b"="c d" "e"=f"#]).unwrap().labels.unwrap();
    assert_eq!(labels, [("a b".to_owned(), "c d".to_owned()), ("e".to_owned(), "f".to_owned())].into());
}

#[test]
fn the_other_instructions() {
    let lines = [
        "EXPOSE 80 53/UDP 8000-8001",
        "VOLUME /a /b",
        r#"VOLUME ["/c d"]"#,
        "USER a:b",
        "STOPSIGNAL SIGINT",
        "WORKDIR x/../y/./z",
        "ONBUILD RUN a",
        "ONBUILD RUN b",
        "HEALTHCHECK --interval=1m30s --retries=3 CMD test -e /a",
    ];
    let config = changed(&lines).unwrap();
    let keys = |map: Option<BTreeMap<String, Value>>| map.unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!(keys(config.exposed_ports), ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
    assert_eq!(keys(config.volumes), ["/a", "/b", "/c d"]);
    assert_eq!((config.user.unwrap(), config.stop_signal.unwrap()), ("a:b".into(), "SIGINT".into()));
    assert_eq!(config.working_dir.unwrap(), "/srv/y/z");
    assert_eq!(config.extra["OnBuild"], json!(["RUN a", "RUN b"]));
    let check = json!({"Interval": 90_000_000_000_u64, "Retries": 3, "Test": ["CMD-SHELL", "test -e /a"]});
    assert_eq!(config.healthcheck.unwrap(), check);
    assert_eq!(changed(&["HEALTHCHECK NONE"]).unwrap().healthcheck.unwrap(), json!({"Test": ["NONE"]}));
}

#[test]
fn what_cannot_be_followed() {
    let table = [
        ("RUN rm", "RUN is none of CMD"),
        ("", "nothing is none of"),
        ("CMD", "there is nothing after CMD"),
        ("ENV A", "NAME=value"),
        ("ENV A=1 B", "'B' is not of the form"),
        ("ENV A='", "a ' is not closed"),
        ("ENV A=${B?}", "is not understood"),
        ("EXPOSE 0", "not a port"),
        ("EXPOSE 80/xyz", "not a port"),
        ("EXPOSE 9-8", "not a port"),
        ("HEALTHCHECK --interval=1x CMD a", "not a duration"),
        ("HEALTHCHECK --interval= CMD a", "not a duration"),
        ("HEALTHCHECK a", "neither NONE nor CMD"),
    ];
    for (line, why) in table {
        let said = changed(&[line]).unwrap_err();
        assert!(said.contains(why), "{line}: {said}");
    }
}

proptest! {
    #[test]
    fn any_instruction_is_followed_or_refused(text in "(CMD|ENV|LABEL|EXPOSE|VOLUME|WORKDIR|HEALTHCHECK|USER)? [-\\PC$\"'\\\\{}=]{0,40}") {
        let result = changed(&[&text]);
        prop_assert!(result.is_ok() || result.is_err());
    }
}
