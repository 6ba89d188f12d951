//! What people are told of the way out: by the lists, by the run, and by what follows.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;
use stockade_testkit::Installation;

/// The same from the index: what went over, what was refused and which command allows it.
pub fn people_are_told(i: &Installation, run: &str, environment: &str, port: u16) {
    let listed = i
        .until("the connections", |i| {
            let page = i.json(&["connections", "list", "--run", run]).ok()?;
            let items = page["items"].as_array()?.clone();
            let ended = |row: &&Value| row["host"] == "echo.test.example" && row["status"] == "ok";
            (items.iter().any(|row| ended(&row)) && page.to_string().contains("packet_nowhere")).then_some(items)
        })
        .unwrap();
    let of = |host: &str| listed.iter().find(|row| row["host"] == host).unwrap();
    let echo = of("echo.test.example");
    assert_eq!((&echo["bytes_out"], &echo["bytes_in"], &echo["policy"]), (&8.into(), &8.into(), &"echo".into()));
    assert_eq!((&echo["environment"], &echo["port"]), (&environment.into(), &port.into()));
    let other = of("other.test.example");
    assert_eq!((&other["status"], &other["decision"]), (&"refused".into(), &"deny".into()));
    assert_eq!(of("inside.test.example")["code"], "not_public");
    let say = |args: &[&str]| {
        let (status, stdout, stderr) = i.stockade(args).unwrap();
        assert_eq!(status, 0, "{args:?}: {stderr}");
        stdout
    };
    let refused = say(&["connections", "list", "--run", run, "--refused"]);
    assert!(refused.contains(&format!("no rule names other.test.example:{port}")), "{refused}");
    assert!(refused.contains(&format!("stockade environments learn {run}")), "{refused}");
    assert!(!refused.contains("echo.test.example"), "{refused}");
    let shown = say(&["connections", "show", echo["id"].as_str().unwrap()]);
    assert!(shown.contains("127.0.0.1") && shown.contains("allow by echo"), "{shown}");
    let summed = say(&["runs", "show", run]);
    assert!(summed.contains("way out") && summed.contains("other.test.example"), "{summed}");

    // Whoever follows the run is told between its other lines, and again who follows connections.
    for args in [["runs", "watch", run].as_slice(), &["connections", "watch", "--run", run]] {
        let mut following = i.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(following.stdout.take().unwrap());
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let wanted = format!("no rule names other.test.example:{port}");
        let mut heard = String::new();
        while !heard.contains(&wanted) {
            let line = told.recv_timeout(Duration::from_secs(60));
            heard.push_str(&line.map_err(|_| format!("{args:?} has not told it: {heard}")).unwrap());
        }
        // Ctrl-C ends it.
        let pid = following.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
        let status = following.wait().unwrap();
        assert_eq!(status.success(), args[0] == "connections", "{args:?}: {status}");
    }
}
