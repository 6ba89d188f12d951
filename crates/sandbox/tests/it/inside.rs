//! The inside by choice: a system that can be written, root of the environment, namespaces within.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use stockade_sandbox::{Class, Driver, EnvironmentSpec, Inside, SandboxError, System, User};

use crate::bed::{Bed, Guest, fresh_id, is_root, small, spec};

crate::both!(
    a_system_of_its_own_is_written_and_the_machine_keeps_its_own,
    root_of_an_environment_has_its_files_and_users_and_no_more,
    packages_are_installed_and_removed,
    what_is_written_to_the_system_counts_and_goes_with_it,
    certificates_are_collected_anew_with_ones_own_among_them,
    namespaces_within_lead_nowhere,
    what_only_the_machines_root_may_read_is_read_by_nobody_inside,
);

fn roomy() -> Class {
    Class { memory_bytes: 512 << 20, disk_bytes: 256 << 20, processes: 128, ..small() }
}

fn with(system: System, user: User) -> EnvironmentSpec {
    EnvironmentSpec { inside: Inside { system, user, nested: false }, ..spec(fresh_id(), roomy()) }
}

async fn a_system_of_its_own_is_written_and_the_machine_keeps_its_own(bed: &Bed) {
    let (id, mut guest) = bed.make_as(with(System::Overlay, User::Agent)).await;
    assert_eq!(guest.sh("id -u; grep -h CapEff /proc/self/status").await.stdout, "1000\nCapEff:\t0000000000000000");
    let wrote = guest
        .sh("set -e; for at in /usr /usr/bin /usr/local/lib /usr/share/doc /opt /etc /etc/ssl /var /var/lib; do echo mine > $at/of-stockade-test; done; \
             echo '#!/bin/sh' > /usr/local/bin/tool-of-stockade-test; echo 'echo it runs' >> /usr/local/bin/tool-of-stockade-test; \
             chmod +x /usr/local/bin/tool-of-stockade-test; tool-of-stockade-test; rm /usr/share/common-licenses/GPL-3; \
             test ! -e /usr/share/common-licenses/GPL-3; rm -r /usr/share/common-licenses; test ! -e /usr/share/common-licenses")
        .await;
    assert_eq!((wrote.status, wrote.stdout.as_str()), (0, "it runs"), "{}", wrote.stderr);
    for at in ["/usr", "/usr/bin", "/usr/local/lib", "/usr/share/doc", "/opt", "/etc", "/etc/ssl", "/var", "/var/lib"] {
        assert!(!Path::new(at).join("of-stockade-test").exists(), "{at} is the machine's");
    }
    assert!(Path::new("/usr/share/common-licenses/GPL-3").exists());
    // Not there, whatever may be written: what is not on the list.
    let ran =
        guest.sh("ls /etc/machine-id /etc/ssh /etc/sudoers /var/lib/docker /boot /srv; ls -A /root /home/agent").await;
    assert_eq!(ran.stdout, "/home/agent:\n\n/root:", "{}", ran.stderr);
    // It is there after a restart, with a machine that did not change below it.
    bed.driver.restart(id).await.unwrap();
    let mut guest = Guest::of(&bed.driver, id).await;
    assert_eq!(
        guest.sh("cat /usr/bin/of-stockade-test; tool-of-stockade-test; ls /usr/share/common-licenses").await.stdout,
        "mine\nit runs"
    );
    // Nobody else has it.
    let (_, mut other) = bed.make_as(with(System::Overlay, User::Agent)).await;
    assert_ne!(other.sh("ls /usr/bin/of-stockade-test").await.status, 0);
    bed.driver.delete(id).await.unwrap();
    assert!(!bed.folder(id).exists());
}

async fn root_of_an_environment_has_its_files_and_users_and_no_more(bed: &Bed) {
    let (_, mut guest) = bed.make_as(with(System::Overlay, User::Root)).await;
    let ran =
        guest.sh("id -u; echo $HOME $USER; grep -hE 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status").await;
    let caps = "CapInh:\t0000000000000000\nCapPrm:\t00000000000000fb\nCapEff:\t00000000000000fb\nCapBnd:\t00000000000000fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1";
    assert_eq!(ran.stdout, format!("0\n/root root\n{caps}"), "{}", ran.stderr);
    // What the machine's root has is this one's, and nothing that is the guest's.
    let ran = guest.sh("stat -c %u /usr /usr/lib /etc/passwd /var/lib /workspace /root /usr/bin/env | tr '\\n' ' '; stat -c %u /proc/$PPID").await;
    // Without root, files that are not yet written are nobody's, in folders that are one's own.
    let last = if is_root() { 0 } else { 65_534 };
    let guest_is = if is_root() { 65_534 } else { 0 };
    assert_eq!(ran.stdout, format!("0 0 0 0 0 0 {last} {guest_is}"), "{}", ran.stderr);
    for refused in [
        "mount -t tmpfs x /mnt",
        "mknod /root/null c 1 3",
        "mknod /dev/sda b 8 0",
        "unshare -U true",
        "unshare -n true",
        "chroot / true",
        "ip link add x type dummy",
        "hostname other",
        "kill -9 1",
        "echo 1 > /proc/sys/kernel/panic",
        "sysctl -w net.ipv4.ip_forward=1",
        "nice -n -5 true 2>&1 | grep -q . && false",
        "cat /proc/1/environ",
        "cat /proc/$PPID/environ",
        "echo x > /proc/$PPID/mem",
        "date -s 2001-01-01",
        "setcap cap_net_raw+ep /usr/bin/env",
    ] {
        assert_ne!(guest.sh(refused).await.status, 0, "{refused}");
    }
    // A file that runs as somebody else does so nowhere.
    let ran = guest.sh("cp /usr/bin/id /root/id; chmod 6755 /root/id; cp /usr/bin/id /usr/bin/id2; chmod 6755 /usr/bin/id2; chmod 711 /root; \
                        ls -l /usr/bin/id2 | cut -c1-10").await;
    assert_eq!(ran.stdout, "-rwsr-sr-x", "{}", ran.stderr);
    if is_root() {
        // Users of its own, and no way back from them.
        let ran = guest.sh("setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'id -u; /root/id -u; /usr/bin/id2 -u; grep CapEff /proc/self/status; touch /usr/x || echo no'").await;
        assert_eq!(ran.stdout, "1000\n1000\n1000\nCapEff:\t0000000000000000\nno", "{}", ran.stderr);
    }
}

async fn packages_are_installed_and_removed(bed: &Bed) {
    if !Path::new("/var/lib/dpkg/status").exists() || Path::new("/usr/bin/stockade-test-tool").exists() {
        return;
    }
    let status = fs::read("/var/lib/dpkg/status").unwrap();
    let (_, mut guest) = bed.make_as(with(System::Overlay, User::Root)).await;
    // A package with what packages have: files, a folder that is another's too, a link, scripts, a trigger, a configuration file.
    let made = guest
        .sh("set -e; mkdir -p p/DEBIAN p/usr/bin p/lib/systemd/system p/usr/share/man/man6; echo x > p/lib/systemd/system/stockade-test.service; gzip -c /dev/null > p/usr/share/man/man6/stockade-test.6.gz; mkdir -p p/usr/lib/x86_64-linux-gnu p/etc/stockade-test p/var/lib/stockade-test; cd p; \
             printf 'Package: stockade-test\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n' > DEBIAN/control; \
             printf '/etc/stockade-test/conf\\n' > DEBIAN/conffiles; echo conf > etc/stockade-test/conf; \
             printf '#!/bin/sh\\necho it runs\\n' > usr/bin/stockade-test-tool; chmod 755 usr/bin/stockade-test-tool; chmod u+s usr/bin/stockade-test-tool; \
             ln -s stockade-test-tool usr/bin/stockade-test-link; \
             printf '#!/bin/sh\\nset -e\\nldconfig\\nupdate-alternatives --install /usr/bin/stockade-test-alt stockade-test-alt /usr/bin/stockade-test-tool 10\\necho configured > /var/lib/stockade-test/state\\n' > DEBIAN/postinst; \
             printf '#!/bin/sh\\nset -e\\nupdate-alternatives --remove stockade-test-alt /usr/bin/stockade-test-tool\\nrm -f /var/lib/stockade-test/state\\n' > DEBIAN/prerm; \
             chmod 755 DEBIAN/postinst DEBIAN/prerm; cd ..; dpkg-deb --root-owner-group -b p t.deb; apt-get install -y ./t.deb; \
             stockade-test-alt; stockade-test-link; cat /var/lib/stockade-test/state; dpkg -s stockade-test | grep Status; dpkg -S /usr/bin/stockade-test-tool; dpkg --verify stockade-test")
        .await;
    assert_eq!(made.status, 0, "{}\n{}", made.stdout, made.stderr);
    let end: Vec<&str> = made.stdout.lines().rev().take(5).collect();
    assert_eq!(
        end,
        [
            "stockade-test: /usr/bin/stockade-test-tool",
            "Status: install ok installed",
            "configured",
            "it runs",
            "it runs"
        ],
        "{}",
        made.stderr
    );
    if is_root() {
        // An account of the package's own, and a file that is given to it: without root there is nobody else.
        let ran = guest
            .sh("set -e; groupadd -r stockade-group; useradd -r -g stockade-group -d /nonexistent -s /usr/sbin/nologin stockade-user; \
                 install -o stockade-user -g stockade-group -m 640 /etc/hosts /var/lib/stockade-test/own; stat -c '%U %G' /var/lib/stockade-test/own; \
                 rm /var/lib/stockade-test/own")
            .await;
        assert_eq!(ran.stdout, "stockade-user stockade-group", "{}", ran.stderr);
    }
    let gone = guest.sh("set -e; apt-get remove -y stockade-test >/dev/null; test ! -e /usr/bin/stockade-test-tool; apt-get purge -y stockade-test > /dev/null; test ! -e /etc/stockade-test/conf").await;
    assert_eq!(gone.status, 0, "{}\n{}", gone.stdout, gone.stderr);
    assert_eq!(fs::read("/var/lib/dpkg/status").unwrap(), status, "the machine knows nothing of it");
    assert!(!Path::new("/usr/bin/stockade-test-tool").exists());
}

async fn what_is_written_to_the_system_counts_and_goes_with_it(bed: &Bed) {
    let (id, mut guest) = bed.make_as(with(System::Overlay, User::Root)).await;
    let ran = guest.sh("head -c 400000000 /dev/zero > /usr/lib/large; sync; stat -c %s /usr/lib/large").await;
    if is_root() {
        assert!(ran.stdout.parse::<u64>().unwrap() < 256 << 20, "the disk ends: {}", ran.stdout);
        let image = fs::metadata(bed.folder(id).join("files.img")).unwrap();
        assert!(image.size() <= 256 << 20 && image.blocks() * 512 > 100 << 20, "it lies on the environment's disk");
    } else {
        // The watcher measures it, and nothing more is done in there.
        let mut over = false;
        for _ in 0..100 {
            let answer = guest
                .ask(serde_json::json!({"op": "exec", "argv": ["sleep", "0.1"], "timeout_ms": 5000, "max_output": 10}))
                .await;
            over = answer["reply"] == "error";
            if over {
                break;
            }
        }
        assert!(over, "what lies above the system counts");
    }
    bed.driver.delete(id).await.unwrap();
    assert!(!bed.folder(id).exists(), "nothing is left, whoever it belonged to");
    let left: Vec<_> =
        fs::read_dir(bed.dir.path().join("environments")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["templates"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gives_nothing_is_refused() {
    let bed = Bed::new();
    let wrong = with(System::ReadOnly, User::Root);
    let error = bed.driver.create(&wrong).await.unwrap_err();
    assert!(matches!(&error, SandboxError::BadSpec { why, .. } if why.contains("overlay")), "{error}");
}

async fn certificates_are_collected_anew_with_ones_own_among_them(bed: &Bed) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Some(crate::trust::authority(folder.path()));
    let gitconfig = Some("[test]\n\tword = mine\n".to_owned());
    let (_, mut guest) =
        bed.make_as(EnvironmentSpec { certificate, gitconfig, ..with(System::Overlay, User::Root) }).await;
    assert_eq!(guest.sh("git config --file /etc/gitconfig test.word").await.stdout, "mine");
    let last = "openssl x509 -noout -fingerprint -in /etc/stockade/ca.pem > /tmp/ours; \
                awk '/BEGIN/ {text = \"\"} {text = text $0 \"\\n\"} END {printf \"%s\", text}' /etc/ssl/certs/ca-certificates.crt | openssl x509 -noout -fingerprint | diff /tmp/ours -";
    assert_eq!(guest.sh(last).await.status, 0, "the bundle ends with ours");
    if guest.sh("command -v update-ca-certificates").await.status != 0 {
        return;
    }
    // As a package with certificates does when it is installed.
    let ran = guest.sh("update-ca-certificates --fresh 2>&1; openssl verify -CApath /etc/ssl/certs /etc/stockade/ca.pem && openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt /etc/stockade/ca.pem").await;
    assert_eq!(ran.status, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert_ne!(
        guest.sh("echo x > /etc/stockade/ca.pem || rm -r /etc/stockade").await.status,
        0,
        "the certificate itself stays"
    );
}

async fn namespaces_within_lead_nowhere(bed: &Bed) {
    for (user, system) in [(User::Agent, System::ReadOnly), (User::Root, System::Overlay)] {
        let inside = Inside { system, user, nested: true };
        let (_, mut guest) = bed.make_as(EnvironmentSpec { inside, ..spec(fresh_id(), roomy()) }).await;
        // What it is for.
        for works in [
            "test $(unshare -Ur id -u) = 0",
            "unshare -Urm sh -c 'mount -t tmpfs none /mnt && echo x > /mnt/x'",
            "unshare -Urm sh -c 'mount --bind /workspace /mnt && touch /mnt/y' && test -e /workspace/y",
            "unshare -Urmpif --uts sh -c 'hostname other && test $(hostname) = other' && test $(hostname) = stockade",
            "test $(unshare -Urn ip -o link | wc -l) = 1",
        ] {
            let ran = guest.sh(works).await;
            assert_eq!(ran.status, 0, "{works}: {}{}", ran.stdout, ran.stderr);
        }
        // What is covered stays covered, and what is read only stays so, to whoever is root of his own namespaces.
        for refused in [
            "unshare -Urm umount /proc/1",
            "unshare -Urm umount -l /proc/kcore",
            "unshare -Urmpf mount -t proc none /mnt",
            "unshare -Urm mount -t sysfs none /mnt",
            "unshare -Urm sh -c 'mount -o remount,rw /proc/sys'",
            "unshare -Urm mount -o remount,bind,rw,suid,dev /usr",
            "unshare -Urm mount -o remount,bind,suid,dev /workspace",
            "unshare -Urm mount -t ext4 /dev/loop0 /mnt",
            "unshare -Urm sh -c 'mount -t tmpfs none /mnt && mknod /mnt/null c 1 3'",
            "unshare -Ur sh -c 'echo 1 > /proc/sys/kernel/panic'",
            "unshare -Ur kill -9 1",
            "nsenter -t 1 -n true",
            "nsenter -t $PPID -n true",
            "nsenter -t $PPID -U true",
        ] {
            assert_ne!(guest.sh(refused).await.status, 0, "{refused}");
        }
        assert_eq!(guest.sh("unshare -Urm sh -c 'cp /usr/bin/id /workspace/id; chmod u+s /workspace/id; setpriv --reuid 0 --clear-groups true'; /workspace/id -u").await.stdout, guest.sh("id -u").await.stdout);
        // A network of one's own has nobody in it; one that is root of it makes no other sockets, and reaches none of netfilter.
        let script = "import socket, errno\n\
            def tell(call):\n\
            \x20   try:\n\
            \x20       call(); print('done')\n\
            \x20   except OSError as error:\n\
            \x20       print(errno.errorcode[error.errno])\n\
            s = socket.socket()\n\
            for level, option in [(0, 64), (0, 65), (0, 96), (0, 128), (41, 64), (41, 65)]:\n\
            \x20   tell(lambda: s.setsockopt(level, option, b'x' * 84))\n\
            for family, kind, protocol in [(2, 3, 6), (17, 3, 0), (16, 3, 12), (16, 3, 6), (38, 5, 0), (40, 1, 0), (44, 3, 0), (29, 3, 1), (16, 3, 16)]:\n\
            \x20   tell(lambda: socket.socket(family, kind, protocol))\n\
            for address in ['203.0.113.20', '169.254.169.254', '127.0.0.1']:\n\
            \x20   tell(lambda: socket.create_connection((address, 80), 2))\n";
        let ran = guest.ask(serde_json::json!({"op": "write", "path": "within.py", "text": script})).await;
        assert_eq!(ran["reply"], "done");
        let ran = guest
            .sh("unshare -Urn python3 within.py | sort | uniq -c | sort -rn | awk '{print $2 $1}' | tr '\\n' ' '")
            .await;
        assert_eq!(ran.stdout.trim(), "EPERM15 ENETUNREACH3", "{}", ran.stderr);
        // An interface that leads to the environment's own network is nobody's to make.
        assert_ne!(guest.sh("unshare -Urn ip link add a type veth peer name b netns $$").await.status, 0);
        assert_ne!(guest.sh("ip link add a type dummy").await.status, 0);
        assert_eq!(guest.sh("echo alive").await.stdout, "alive");
    }
    // Where nobody asked for it, there is none of it.
    let (_, mut guest) = bed.make(small()).await;
    assert_ne!(guest.sh("unshare -Ur true").await.status, 0);
}

async fn what_only_the_machines_root_may_read_is_read_by_nobody_inside(bed: &Bed) {
    if !is_root() {
        // Then it is the kernel who refuses, as to the same user outside.
        return;
    }
    for place in ["/opt", "/usr/local", "/usr/lib"] {
        let there = tempfile::Builder::new().prefix("stockade-test-").tempdir_in(place).unwrap();
        for (name, mode) in [("closed", 0o600), ("group", 0o640), ("open", 0o644)] {
            fs::write(there.path().join(name), "of the machine").unwrap();
            fs::set_permissions(there.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(there.path().join("shut")).unwrap();
        fs::write(there.path().join("shut/key"), "of the machine").unwrap();
        fs::set_permissions(there.path().join("shut"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(there.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = there.path().display();
        for user in [User::Root, User::Agent] {
            let (id, mut guest) = bed.make_as(with(System::Overlay, user)).await;
            assert_eq!(guest.sh(&format!("cat {at}/open")).await.stdout, "of the machine", "{place}");
            for closed in ["closed", "group", "shut/key"] {
                assert_ne!(guest.sh(&format!("cat {at}/{closed}")).await.status, 0, "{at}/{closed}");
                assert_ne!(guest.sh(&format!("ln {at}/{closed} /tmp/x; chmod 777 {at}/{closed} {at}/shut; cp {at}/{closed} /tmp/y && cat /tmp/y")).await.status, 0);
            }
            let ran = guest
                .sh(&format!(
                    "set -e; cd {at}; echo mine > new; mv new open; cat open; rm open; echo again > other; ls"
                ))
                .await;
            assert!(
                ran.stdout.starts_with("mine\n") && ran.stdout.contains("other"),
                "{place}: {}{}",
                ran.stdout,
                ran.stderr
            );
            bed.driver.delete(id).await.unwrap();
        }
        assert_eq!(fs::read_to_string(there.path().join("open")).unwrap(), "of the machine");
    }
}
