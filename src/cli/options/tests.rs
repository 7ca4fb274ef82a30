//! What an option string means.
#![allow(clippy::unwrap_used)]

use super::*;
fn parse(text: &str) -> Result<MountOptions, OptionError> {
    let mut options = MountOptions::defaults(true);
    options.apply(OsStr::new(text))?;
    Ok(options)
}

fn good(text: &str) -> MountOptions {
    parse(text).unwrap()
}

fn paths(texts: &[&str]) -> Vec<PathBuf> {
    texts.iter().map(PathBuf::from).collect()
}

#[test]
fn defaults_of_root_and_of_others() {
    let root = MountOptions::defaults(true);
    assert!(root.default_permissions && root.allow_other && root.suid && !root.dev && root.exec);
    let other = MountOptions::defaults(false);
    assert!(other.default_permissions && !other.allow_other && !other.suid && !other.dev && other.exec);
    assert_eq!((root.fsname.as_str(), root.subtype.as_str()), ("laminafs", "laminafs"));
    assert!(!root.read_only && !root.volatile && !root.no_atime);
}

#[test]
fn every_default_has_its_opposite() {
    let o = good("no_default_permissions,no_allow_other,nosuid,dev,noexec,noatime,ro,volatile,sync,dirsync");
    assert!(!o.default_permissions && !o.allow_other && !o.suid && o.dev && !o.exec);
    assert!(o.no_atime && o.read_only && o.volatile && o.sync && o.dir_sync);
    let mut o = MountOptions::defaults(false);
    o.apply(OsStr::new("allow_other,suid,dev")).unwrap();
    assert!(o.allow_other && o.suid && o.dev);
    assert!(o.ignored.is_empty());
}

#[test]
fn the_last_one_counts() {
    let o = good("ro,rw,dev,nodev,suid,nosuid,suid,noatime,atime,sync,async,lowerdir=a,lowerdir=b:c,noexec,exec");
    assert!(!o.read_only && !o.dev && o.suid && !o.no_atime && !o.sync && o.exec);
    assert_eq!(o.lower, paths(&["b", "c"]));
    let mut o = good("upperdir=u,ro");
    o.apply(OsStr::new("rw,upperdir=v")).unwrap();
    assert_eq!(o.upper, Some("v".into()));
    assert!(!o.read_only);
}

#[test]
fn a_whole_stack() {
    let o = good("lowerdir=/l/A:/l/B:../diff1,upperdir=/x/diff,workdir=/x/work,volatile");
    assert_eq!(o.lower, paths(&["/l/A", "/l/B", "../diff1"]));
    assert_eq!((o.upper, o.work), (Some("/x/diff".into()), Some("/x/work".into())));
    assert!(o.volatile && o.data_only.is_empty() && o.ignored.is_empty());
}

#[test]
fn empty_elements_are_nothing() {
    let o = good(",,lowerdir=/a,,workdir=/w,,volatile,");
    assert_eq!(o.lower, paths(&["/a"]));
    assert_eq!(o.work, Some("/w".into()));
    assert!(o.volatile && o.ignored.is_empty());
    assert_eq!(good(""), MountOptions::defaults(true));
}

#[test]
fn escapes() {
    let o = good(r"lowerdir=/a\:b:/c\,d:/e\\f:/g\\,upperdir=/u\,p\:r\\,workdir=/w:x");
    assert_eq!(o.lower, paths(&["/a:b", "/c,d", r"/e\f", r"/g\"]));
    assert_eq!(o.upper, Some(r"/u,p:r\".into()));
    assert_eq!(o.work, Some("/w:x".into()));
    assert_eq!(good(r"lowerdir=/\a\::b\").lower, paths(&["/a:", "b"]));
    assert_eq!(good(r"fsname=a\,b").fsname, "a,b");
}

#[test]
fn paths_need_not_be_utf8() {
    let mut o = MountOptions::defaults(true);
    o.apply(OsStr::from_bytes(b"lowerdir=/\xff\xfe:/\xe4,upperdir=\xff")).unwrap();
    assert_eq!(o.lower[0].as_os_str().as_bytes(), b"/\xff\xfe");
    assert_eq!(o.lower[1].as_os_str().as_bytes(), b"/\xe4");
    assert_eq!(o.upper.as_deref().map(|p| p.as_os_str().as_bytes()), Some(&b"\xff"[..]));
}

#[test]
fn data_only_layers() {
    let o = good("lowerdir=/a:/b::/d1::/d2");
    assert_eq!((o.lower, o.data_only), (paths(&["/a", "/b"]), paths(&["/d1", "/d2"])));
    assert_eq!(good("lowerdir=/a::/d,lowerdir=/b").data_only, paths(&[]));
    assert_eq!(good(r"lowerdir=/a\::/b").lower, paths(&["/a:", "/b"]));
    assert!(matches!(parse("lowerdir=/a::/d:/b"), Err(OptionError::LayerAfterData(_))));
}

/// fsconfig(2) of the kernel takes layers so, and mount(8) passes on what it does not know.
#[test]
fn layers_one_by_one() {
    let o = good(r"lowerdir+=/a:b,datadir+=/d1,lowerdir+=/c\,d,datadir+=/d2");
    assert_eq!((o.lower, o.data_only), (paths(&["/a:b", "/c,d"]), paths(&["/d1", "/d2"])));
    let o = good("lowerdir=/a:/b,lowerdir+=/c");
    assert_eq!(o.lower, paths(&["/a", "/b", "/c"]));
    assert!(o.ignored.is_empty());
    assert_eq!(parse("lowerdir+="), Err(OptionError::NoPath("lowerdir+")));
    assert!(names_layers(OsStr::new("lowerdir+=/a")));
}

#[test]
fn fsync_is_the_older_word_for_volatile() {
    assert!(good("fsync=0").volatile && !good("volatile,fsync=1").volatile && good("fsync=1,volatile").volatile);
    assert!(good("fsync=0,fsync=1").ignored.is_empty());
}

#[test]
fn empty_layers_are_errors() {
    for text in ["lowerdir=:a", "lowerdir=a:", "lowerdir=a:::b", "lowerdir=::d", "lowerdir=a::", "lowerdir=a::b::"] {
        assert!(matches!(parse(text), Err(OptionError::EmptyLayer(_))), "{text}");
    }
    for text in ["lowerdir=", "lowerdir", "upperdir=", "upperdir", "workdir="] {
        assert!(matches!(parse(text), Err(OptionError::NoPath(_))), "{text}");
    }
}

#[test]
fn redirect_and_index() {
    assert_eq!(good("lowerdir=a").redirect, RedirectMode::Auto);
    assert_eq!(good("redirect_dir=on").redirect, RedirectMode::On);
    assert_eq!(good("redirect_dir=follow").redirect, RedirectMode::Follow);
    assert_eq!(good("redirect_dir=nofollow").redirect, RedirectMode::NoFollow);
    assert_eq!(good("redirect_dir=off").redirect, RedirectMode::Off);
    for text in ["redirect_dir=maybe", "redirect_dir", "index=maybe", "index"] {
        assert!(matches!(parse(text), Err(OptionError::Value { .. })), "{text}");
    }
    assert!(good("lowerdir=a").index && good("index=off,index=on").index);
    assert!(!good("index=on,index=off").index);
}

#[test]
fn ways_of_data() {
    assert_eq!(good("lowerdir=a").data, Data::Auto);
    assert_eq!(good("data=cache").data, Data::Cache);
    assert_eq!(good("data=cache,data=passthrough").data, Data::Passthrough);
    assert_eq!(good("data=passthrough,data=auto").data, Data::Auto);
    for text in ["data", "data=", "data=direct"] {
        assert!(matches!(parse(text), Err(OptionError::Value { .. })), "{text}");
    }
}

#[test]
fn unknown_options_are_collected() {
    let o = good("lowerdir=a,lazytime,frobnicate=7,private,xino=off,relatime,x-systemd.automount,rw,uuid=on");
    assert_eq!(o.ignored, ["lazytime", "frobnicate=7", "uuid=on"]);
    // A switch has no value.
    assert_eq!(good("volatile=1").ignored, ["volatile=1"]);
    assert_eq!(good("metacopy=on,metacopy=off").ignored, ["metacopy=on"]);
}

#[test]
fn quoted_contexts() {
    let label = r#"context="system_u:object_r:container_file_t:s0:c214,c1021""#;
    let o = good(&format!("lowerdir=a,{label},upperdir=u"));
    assert_eq!((o.ignored, o.upper), (vec![label.to_owned()], Some("u".into())));
    assert_eq!(good(&format!("lowerdir=a,,{label}")).ignored, [label]);
    // No end, no quote; and quotes are ordinary characters elsewhere.
    assert_eq!(good(r#"context="a,ro"#).ignored, [r#"context="a"#]);
    assert!(good(r#"context="a,ro"#).read_only);
    assert_eq!(good(r#"lowerdir="a,upperdir=b""#).lower, paths(&["\"a"]));
    assert_eq!(good(r#"context="a,b",rootcontext="c,d",ro"#).ignored.len(), 2);
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    for text in ["verity=require", "verity=on", "nfs_export=on"] {
        let error = parse(text).unwrap_err();
        assert_eq!(error, OptionError::NotImplemented(text.to_owned()));
        assert!(error.to_string().contains(text));
    }
    assert!(good("xattr_permissions=0,verity=off,nfs_export=off").ignored.is_empty());
}

#[test]
fn owners_in_attributes_as_fuse_overlayfs_names_it() {
    assert!(good("xattr_permissions=0,xattr_permissions=2").override_stat);
    let privileged = |text| (good(text).override_stat, good(text).privileged_stat);
    assert_eq!(privileged("xattr_permissions=1"), (true, true));
    assert_eq!(privileged("xattr_permissions=1,xattr_permissions=2"), (true, false));
    for text in ["xattr_permissions", "xattr_permissions=", "xattr_permissions=3", "xattr_permissions=on"] {
        assert!(matches!(parse(text), Err(OptionError::Value { .. })), "{text}");
    }
    assert!(!good("xattr_permissions=2,xattr_permissions=0").override_stat);
    assert!(!good("ro").override_stat);
}

#[test]
fn owners() {
    let o = good("uidmapping=0:100000:65536:70000:5:1,gidmapping=0:1000:1");
    assert_eq!(good("uidmapping=:0:100000:65536:70000:5:1,gidmapping=:0:1000:1").ids, o.ids, "as podman writes it");
    let range = |disk, shown, count| IdRange { disk, shown, count };
    assert_eq!(o.ids.users.ranges, [range(0, 100_000, 65536), range(70_000, 5, 1)]);
    assert_eq!(o.ids.groups.ranges, [range(0, 1000, 1)]);
    let o = good("squash_to_root,squash_to_gid=5");
    assert_eq!((o.ids.users.squash, o.ids.groups.squash), (Some(0), Some(5)));
    for bad in [
        "uidmapping",
        "uidmapping=",
        "uidmapping=:",
        "uidmapping=::0:1:1",
        "uidmapping=0:1",
        "uidmapping=0:1:0",
        "uidmapping=0:1:2:1:9:1",
        "uidmapping=0:1:2:8:2:1",
        "gidmapping=0:1:2:",
        "gidmapping=-1:1:2",
        "gidmapping=0:4294967290:100",
        "squash_to_uid",
        "squash_to_uid=root",
        "squash_to_gid=4294967295",
        "squash_to_gid=+5",
    ] {
        assert!(matches!(parse(bad), Err(OptionError::Value { .. })), "{bad}");
    }
}

#[test]
fn names_in_proc_mounts() {
    let o = good("fsname=here,subtype=");
    assert_eq!((o.fsname.as_str(), o.subtype.as_str()), ("here", ""));
}

#[test]
fn flags_beside_the_string() {
    let mut o = good("upperdir=u,workdir=w");
    o.add_flags(paths(&["a:b", "c,d"]), Some("v".into()), None).unwrap();
    assert_eq!(o.lower, paths(&["a:b", "c,d"]));
    assert_eq!((o.upper, o.work), (Some("v".into()), Some("w".into())));
    let mut o = good("lowerdir=a");
    assert_eq!(o.add_flags(paths(&["b"]), None, None), Err(OptionError::TwoStacks));
}

#[test]
fn strings_that_name_layers() {
    assert!(names_layers(OsStr::new("lowerdir=a")));
    assert!(names_layers(OsStr::new("ro,,lowerdir=a:b")));
    assert!(!names_layers(OsStr::new("upperdir=/x/lowerdir=a")));
    assert!(!names_layers(OsStr::new(r"upperdir=a\,lowerdir=b")));
    assert!(!names_layers(OsStr::new("")));
}

#[test]
fn attributes_of_users_lead_nowhere() {
    let o = good("userxattr,redirect_dir=nofollow,metacopy=off");
    assert!(o.userxattr && o.ignored.is_empty());
    assert!(!good("ro").userxattr);
    for (text, option) in [
        ("redirect_dir=on,userxattr", "redirect_dir=on"),
        ("userxattr,redirect_dir=follow", "redirect_dir=follow"),
        ("userxattr,metacopy=on", "metacopy=on"),
    ] {
        assert_eq!(good(text).check(), Err(OptionError::LedByUsers(option)));
    }
    for text in
        ["userxattr", "userxattr,redirect_dir=off", "redirect_dir=on,metacopy=on", "userxattr,metacopy=on,metacopy=off"]
    {
        assert_eq!(good(text).check(), Ok(()), "{text}");
    }
}
