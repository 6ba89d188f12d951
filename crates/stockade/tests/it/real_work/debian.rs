//! apt under its preset: in the clear, as it speaks by default, and read all the same.

use super::{Scene, can_work_with, preset};

/// apt's folders are the task's own: the machine's cannot be written inside.
const OWN: &str = "mkdir -p apt/lists/partial apt/cache/archives/partial; touch apt/status\n\
    own=\"-o Dir::Etc::SourceList=$PWD/apt/sources.list -o Dir::Etc::SourceParts=- -o Dir::State=$PWD/apt \
    -o Dir::State::status=$PWD/apt/status -o Dir::Cache=$PWD/apt/cache\"\n";

#[test]
fn apt_updates_and_downloads_a_package() {
    if !can_work_with("apt-get") {
        return;
    }
    let scene = Scene::preset("debian");
    let archive = scene.world.host("debian.packages", 0);
    let source = format!("echo 'deb [trusted=yes] http://{archive}/debian stable main' > apt/sources.list\n");
    let said = scene.works(&format!(
        "{OWN}{source}apt-get $own update; apt-get $own download acme-words; dpkg-deb -x acme-words_1.0_all.deb out; cat out/usr/share/acme/words"
    ));
    assert!(said.contains("words of acme\n"), "{said}");
    assert!(scene.world.saw(&format!("GET {archive}/debian/dists/stable/Release")), "{:?}", scene.world.seen());
    // A source that the preset does not name is none.
    let other = "echo 'deb [trusted=yes] http://elsewhere.example/debian stable main' > apt/sources.list\n";
    let (status, said) = scene.inside(&format!("{OWN}{other}apt-get $own -o APT::Update::Error-Mode=any update"));
    assert!(status != 0 && said.contains("403"), "{said}");
    scene.kept_to(&[archive]);
}

#[test]
fn apt_installs_a_package_where_the_system_is_the_environments_own() {
    if !can_work_with("apt-get") {
        return;
    }
    let scene = Scene::with_config(&preset("debian"), "[environment]\nsystem = \"overlay\"\nuser = \"root\"\n");
    let archive = scene.world.host("debian.packages", 0);
    // Which releases there are is the machine's to say, and here of the test's.
    let said = scene.works(&format!(
        "rm -rf /etc/apt/sources.list.d; echo 'deb [trusted=yes] http://{archive}/debian stable main' > /etc/apt/sources.list\n\
         apt-get update; apt-get install -y acme-words; cat /usr/share/acme/words; dpkg -s acme-words"
    ));
    assert!(said.contains("words of acme\n") && said.contains("Status: install ok installed"), "{said}");
    assert!(!std::path::Path::new("/usr/share/acme").exists(), "the machine's own system is another");
    scene.kept_to(&[archive]);
}
