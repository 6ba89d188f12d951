//! Where Amazon's keys come from.

use std::fs;

use super::{
    NOW,
    authority::{Authority, ok},
    authorization, later, made, signed, told, try_made,
};

fn sts(id: &str, end: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Audience>sts.amazonaws.com</Audience><Credentials>\
         <SessionToken>SECRET-session</SessionToken><SecretAccessKey>SECRET/key+</SecretAccessKey>\
         <Expiration>{end}</Expiration><AccessKeyId>{id}</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    )
}

/// `NOW` plus an hour.
const END: &str = "2026-09-21T15:13:20Z";

#[tokio::test]
async fn web_identity_exchanges_the_token_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "SECRET.token.1\n").unwrap();
    let authority = Authority::start(|asked, _| {
        let form = asked.form();
        assert_eq!(form["Action"], "AssumeRoleWithWebIdentity");
        assert_eq!(form["Version"], "2011-06-15");
        assert_eq!(form["RoleArn"], "arn:aws:iam::123456789012:role/stockade");
        assert_eq!(form["RoleSessionName"], "stockade");
        ok(sts(&format!("ASIA{}", form["WebIdentityToken"].rsplit('.').next().unwrap()), END))
    })
    .await;
    let credential = made(&format!(
        "kind = \"aws-web-identity\"\nregion = \"eu-central-1\"\nrole_arn = \"arn:aws:iam::123456789012:role/stockade\"\n\
         token_file = \"{}\"\nendpoint = \"{}\"",
        token.display(),
        authority.url("")
    ));
    let headers = signed(&credential, NOW).await.unwrap();
    let text = headers["authorization"].to_str().unwrap();
    assert!(
        text.starts_with("AWS4-HMAC-SHA256 Credential=ASIA1/20260921/eu-central-1/bedrock/aws4_request, "),
        "{text}"
    );
    assert!(text.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token,"));
    assert_eq!(headers["x-amz-security-token"], "SECRET-session");
    assert_eq!(headers["x-amz-date"], "20260921T141320Z");
    assert_eq!(credential.check(NOW).await.unwrap().until, Some(later(3_600)));
    assert_eq!(authority.count(), 1);
    fs::write(&token, "SECRET.token.22\n").unwrap();
    assert!(authorization(&credential, NOW).await.contains("ASIA22/"));
    assert_eq!(authority.count(), 2);
}

#[tokio::test]
async fn a_refusal_is_told_without_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "SECRET.token").unwrap();
    let authority = Authority::start(|_, _| {
        let error = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not with SECRET.token\n</Message></Error>\
                     </ErrorResponse>";
        (403, Vec::new(), error.to_owned())
    })
    .await;
    let config = |endpoint: &str| {
        let file = token.display();
        format!("kind = \"aws-web-identity\"\nrole_arn = \"r\"\ntoken_file = \"{file}\"\nendpoint = \"{endpoint}\"")
    };
    let credential = try_made(&config(&authority.url("")), &[("AWS_REGION", "eu-central-1")]).unwrap();
    let told = told(&credential.check(NOW).await.unwrap_err());
    for word in ["the security token service", "403", "AccessDenied Not with [secret]", "trust policy"] {
        assert!(told.contains(word), "{told}");
    }
    assert!(!told.contains("SECRET"));
    let far = try_made(&config("http://sts.example.com/"), &[("AWS_REGION", "eu-central-1")]).unwrap_err();
    assert!(far.to_string().contains("plain http is only allowed"));
    assert!(try_made(&config("https://x/"), &[]).unwrap_err().to_string().contains("region"));
}

#[tokio::test]
async fn the_instances_role_comes_by_the_second_version_only() {
    let authority = Authority::start(|asked, _| {
        let path = asked.path.as_str();
        if path == "/latest/api/token" {
            assert_eq!(asked.method, "PUT");
            assert_eq!(asked.header("x-aws-ec2-metadata-token-ttl-seconds"), "60");
            return ok("SECRET-session==");
        }
        assert_eq!(asked.header("x-aws-ec2-metadata-token"), "SECRET-session==");
        match path {
            "/latest/meta-data/iam/security-credentials/" => ok("the-role"),
            "/latest/meta-data/iam/security-credentials/the-role" => ok(format!(
                "{{\"Code\":\"Success\",\"LastUpdated\":\"x\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"ASIAINSTANCE\",\
                 \"SecretAccessKey\":\"SECRET\",\"Token\":\"SECRET-token\",\"Expiration\":\"{END}\"}}"
            )),
            _ => (404, Vec::new(), String::new()),
        }
    })
    .await;
    let credential =
        made(&format!("kind = \"aws-instance\"\nregion = \"us-west-2\"\nendpoint = \"{}\"", authority.url("")));
    assert!(authorization(&credential, NOW).await.contains("Credential=ASIAINSTANCE/20260921/us-west-2/bedrock/"));
    assert_eq!(authority.count(), 3);
}

#[tokio::test]
async fn a_metadata_service_that_means_harm_is_not_followed() {
    for (role, keys, word) in [
        ("../../user-data", "", "the role's name is none"),
        ("", "", "the role's name is none"),
        ("r", "{\"Code\":\"Failed\",\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"SECRET\"}", "not `Success`"),
        ("r", "{\"AccessKeyId\":\"a\\nb\",\"SecretAccessKey\":\"SECRET\"}", "strange characters"),
        ("r", "SECRET", "expected JSON"),
        ("r", "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"SECRET\",\"Expiration\":\"soon\"}", "no time"),
    ] {
        let authority = Authority::start(move |asked, _| match asked.path.as_str() {
            "/latest/api/token" => ok("t"),
            "/latest/meta-data/iam/security-credentials/" => ok(role),
            _ => ok(keys),
        })
        .await;
        let text = format!("kind = \"aws-instance\"\nregion = \"us-west-2\"\nendpoint = \"{}\"", authority.url(""));
        let told = told(&made(&text).check(NOW).await.unwrap_err());
        assert!(told.contains(word) && !told.contains("SECRET"), "{told}");
        assert!(authority.asked().iter().all(|asked| asked.path.starts_with("/latest/")));
    }
}

#[tokio::test]
async fn a_containers_role_comes_from_its_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "SECRET-of-file").unwrap();
    let authority = Authority::start(|asked, _| {
        assert_eq!(asked.path, "/v1/credentials");
        let id = asked.header("authorization").rsplit('-').next().unwrap().to_owned();
        ok(format!(
            "{{\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"SECRET\",\"Token\":\"t\",\"Expiration\":\"{END}\"}}"
        ))
    })
    .await;
    let url = authority.url("v1/credentials");
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
    let with = |more| try_made("kind = \"aws-container\"\nregion = \"r\"", &[full, more]).unwrap();
    let credential = with(("AWS_CONTAINER_AUTHORIZATION_TOKEN", "SECRET-of-variable"));
    assert!(authorization(&credential, NOW).await.contains("Credential=variable/"));
    let path = token.display().to_string();
    let credential = with(("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &path));
    assert!(authorization(&credential, NOW).await.contains("Credential=file/"));
    let none = try_made("kind = \"aws-container\"\nregion = \"r\"", &[]).unwrap_err();
    assert!(none.to_string().contains("ECS"));
}

#[tokio::test]
async fn keys_in_files_and_profiles_follow_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("id"), "AKIAONE").unwrap();
    fs::write(path("key"), "SECRET").unwrap();
    let credential = made(&format!(
        "kind = \"aws-static\"\nregion = \"r\"\nservice = \"bedrock-mantle\"\naccess_key_id = \"file:{}\"\n\
         secret_access_key = \"file:{}\"",
        path("id"),
        path("key")
    ));
    assert!(authorization(&credential, NOW).await.contains("Credential=AKIAONE/20260921/r/bedrock-mantle/"));
    assert!(!signed(&credential, NOW).await.unwrap().contains_key("x-amz-security-token"));
    fs::write(path("id"), "AKIATHREE").unwrap();
    assert!(authorization(&credential, NOW).await.contains("Credential=AKIATHREE/"));

    fs::write(path("credentials"), "[default]\naws_access_key_id=AKIADEFAULT\naws_secret_access_key = SECRET\n")
        .unwrap();
    fs::write(
        path("config"),
        "# of somebody\n[profile work]\nregion = eu-west-1\naws_access_key_id = AKIAWORK\naws_secret_access_key = SECRET\n\
         s3 =\n  aws_access_key_id = AKIANESTED\n[profile sso]\nsso_session = x\n[profile cmd]\ncredential_process = /bin/x\n",
    )
    .unwrap();
    let profile = |name: &str| {
        let files = [("AWS_SHARED_CREDENTIALS_FILE", path("credentials")), ("AWS_CONFIG_FILE", path("config"))];
        let variables: Vec<(&str, &str)> = files.iter().map(|(name, value)| (*name, value.as_str())).collect();
        try_made(&format!("kind = \"aws-profile\"\nregion = \"r\"\nprofile = \"{name}\""), &variables).unwrap()
    };
    assert!(authorization(&profile("default"), NOW).await.contains("Credential=AKIADEFAULT/"));
    assert!(authorization(&profile("work"), NOW).await.contains("Credential=AKIAWORK/"));
    for (name, word) in
        [("sso", "sso_session"), ("cmd", "credential_process"), ("nobody", "there is none of this name")]
    {
        let error = profile(name).check(NOW).await.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let credential = profile("default");
    credential.check(NOW).await.unwrap();
    fs::write(path("credentials"), "[default]\naws_access_key_id=AKIANEXT\naws_secret_access_key = SECRET-2\n")
        .unwrap();
    assert!(authorization(&credential, NOW).await.contains("Credential=AKIANEXT/"));
}

#[test]
fn the_default_is_the_first_that_the_surroundings_name() {
    let about = |variables: &[(&str, &str)]| {
        let made = try_made("kind = \"aws-default\"\nregion = \"r\"", variables).unwrap();
        made.about().to_owned()
    };
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn:r")];
    assert!(about(&[("AWS_BEARER_TOKEN_BEDROCK", "x"), keys[0], keys[1]]).contains("AWS_BEARER_TOKEN_BEDROCK"));
    assert_eq!(about(&[keys[0], keys[1], web[0], web[1]]), "access keys of Amazon");
    assert_eq!(
        about(&[web[0], web[1], ("AWS_PROFILE", "p"), ("HOME", "/")]),
        "the role arn:r of Amazon, by web identity"
    );
    assert_eq!(about(&[("AWS_PROFILE", "p"), ("HOME", "/")]), "the profile `p` of Amazon");
    let container = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x");
    assert_eq!(about(&[container]), "the role of this container of Amazon");
    assert_eq!(about(&[("HOME", "/no/such/home")]), "the role of this instance of Amazon");
}

#[tokio::test]
async fn a_role_is_assumed_with_the_keys_of_another_way() {
    let authority = Authority::start(|asked, _| {
        let form = asked.form();
        assert_eq!((form["Action"].as_str(), form["ExternalId"].as_str()), ("AssumeRole", "us"));
        assert_eq!(form["RoleArn"], "arn:aws:iam::210987654321:role/models");
        let proof = asked.header("authorization");
        let id = proof.split("Credential=").nth(1).unwrap().split('/').next().unwrap().to_owned();
        assert!(proof.contains("/20260921/eu-central-1/sts/aws4_request"), "{proof}");
        assert!(proof.contains("SignedHeaders=content-type;host;x-amz-date,"), "{proof}");
        ok(sts(&format!("ASIAFROM{id}"), END))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("id"), "AKIAONE").unwrap();
    fs::write(path("key"), "SECRET").unwrap();
    let credential = made(&format!(
        "kind = \"aws-role\"\nregion = \"eu-central-1\"\nrole_arn = \"arn:aws:iam::210987654321:role/models\"\nexternal_id = \"us\"\n\
         endpoint = \"{}\"\n[from]\nkind = \"aws-static\"\nregion = \"eu-central-1\"\naccess_key_id = \"file:{}\"\n\
         secret_access_key = \"file:{}\"",
        authority.url(""),
        path("id"),
        path("key")
    ));
    let text = authorization(&credential, NOW).await;
    assert!(text.contains("Credential=ASIAFROMAKIAONE/20260921/eu-central-1/bedrock/"), "{text}");
    fs::write(path("id"), "AKIATWOTWO").unwrap();
    assert!(authorization(&credential, NOW).await.contains("Credential=ASIAFROMAKIATWOTWO/"));
    assert_eq!(authority.count(), 2);
    let bearer = [("AWS_BEARER_TOKEN_BEDROCK", "x")];
    let error = try_made("kind = \"aws-role\"\nregion = \"r\"\nrole_arn = \"a\"", &bearer).unwrap_err();
    assert!(error.to_string().contains("access keys"));
}
