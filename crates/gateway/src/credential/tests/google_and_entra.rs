//! Bearer tokens of Google and Entra ID.

use std::fs;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{
    NOW,
    authority::{Authority, ok},
    authorization, later, made, signed, told, try_made,
};

fn pem(key: &KeyPair) -> String {
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()))
}

fn service_account(key: &KeyPair, id: &str, url: &str) -> String {
    json!({
        "type": "service_account",
        "project_id": "p",
        "private_key_id": id,
        "private_key": pem(key),
        "client_email": "stockade@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": url,
    })
    .to_string()
}

#[tokio::test]
async fn a_service_accounts_key_signs_for_a_token() {
    let keys = [KeyPair::generate(KeySize::Rsa2048).unwrap(), KeyPair::generate(KeySize::Rsa2048).unwrap()];
    let public: Vec<Vec<u8>> = keys.iter().map(|key| key.public_key().as_ref().to_vec()).collect();
    let authority = Authority::start(move |asked, _| {
        let form = asked.form();
        assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
        let (text, signature) = form["assertion"].rsplit_once('.').unwrap();
        let part = |n: usize| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(n).unwrap()).unwrap()).unwrap()
        };
        let (header, claims) = (part(0), part(1));
        assert_eq!((&header["alg"], &header["typ"]), (&json!("RS256"), &json!("JWT")));
        let index: usize = header["kid"].as_str().unwrap().parse().unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public[index])
            .verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
        assert_eq!(claims["iss"], "stockade@p.iam.gserviceaccount.com");
        assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
        assert_eq!(claims["aud"].as_str().unwrap().rsplit('/').next(), Some("token"));
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1_790_000_000), &json!(1_790_003_600)));
        ok(format!("{{\"access_token\":\"ya29.SECRET-{index}\",\"expires_in\":3599,\"token_type\":\"Bearer\"}}"))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("account.json");
    fs::write(&path, service_account(&keys[0], "0", &authority.url("token"))).unwrap();
    let credential = made(&format!("kind = \"google-file\"\nfile = \"{}\"", path.display()));
    assert_eq!(authorization(&credential, NOW).await, "Bearer ya29.SECRET-0");
    assert_eq!(credential.check(NOW).await.unwrap().until, Some(later(3_599)));
    assert_eq!(authority.count(), 1);
    fs::write(&path, service_account(&keys[1], "1", &authority.url("token")) + "\n").unwrap();
    assert_eq!(authorization(&credential, NOW).await, "Bearer ya29.SECRET-1");

    for (text, word) in [
        ("{\"type\":\"authorized_user\",\"refresh_token\":\"SECRET\"}".to_owned(), "neither service_account nor"),
        ("{\"type\":\"service_account\",\"private_key\":\"SECRET\"}".to_owned(), "all its fields"),
        (service_account(&keys[0], "0", "http://oauth2.example.com/token"), "plain http"),
        (
            service_account(&keys[0], "0", &authority.url("token")).replace("BEGIN PRIVATE", "BEGIN EC PRIVATE"),
            "no RSA key",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let fresh = made(&format!("kind = \"google-file\"\nfile = \"{}\"", path.display()));
        let told = told(&fresh.check(NOW).await.unwrap_err());
        assert!(told.contains(word) && !told.contains("SECRET") && !told.contains("MII"), "{told}");
    }
}

#[tokio::test]
async fn a_federation_exchanges_and_impersonates() {
    let authority = Authority::start(|asked, _| {
        if asked.path == "/v1/token" {
            let form = asked.form();
            assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
            assert_eq!(form["audience"], "//iam.googleapis.com/projects/1/x");
            assert_eq!(form["requested_token_type"], "urn:ietf:params:oauth:token-type:access_token");
            assert_eq!(form["subject_token_type"], "urn:ietf:params:oauth:token-type:jwt");
            assert_eq!(form["scope"], "https://www.googleapis.com/auth/cloud-platform");
            return ok(format!("{{\"access_token\":\"federated-{}\",\"expires_in\":3600}}", form["subject_token"]));
        }
        assert_eq!(asked.path, "/v1/account:generateAccessToken");
        assert_eq!(asked.header("authorization"), "Bearer federated-SECRET.json");
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(body, json!({ "scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "3600s" }));
        ok("{\"accessToken\":\"SECRET-impersonated\",\"expireTime\":\"2026-09-21T15:13:20Z\"}")
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("text"), "SECRET.text\n").unwrap();
    fs::write(path("json"), "{\"id_token\":\"SECRET.json\"}").unwrap();
    let write = |source: Value, impersonate: bool| {
        let mut file = json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/x",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": authority.url("v1/token"),
            "credential_source": source,
        });
        if impersonate {
            file["service_account_impersonation_url"] = json!(authority.url("v1/account:generateAccessToken"));
        }
        fs::write(path("file"), file.to_string()).unwrap();
        made(&format!("kind = \"google-file\"\nfile = \"{}\"", path("file")))
    };
    let credential = write(json!({ "file": path("text") }), false);
    assert_eq!(authorization(&credential, NOW).await, "Bearer federated-SECRET.text");
    // The subject's file is followed too.
    fs::write(path("text"), "SECRET.text.again").unwrap();
    assert_eq!(authorization(&credential, NOW).await, "Bearer federated-SECRET.text.again");
    let format = json!({ "type": "json", "subject_token_field_name": "id_token" });
    let credential = write(json!({ "file": path("json"), "format": format }), true);
    assert_eq!(authorization(&credential, NOW).await, "Bearer SECRET-impersonated");
    assert_eq!(credential.check(NOW).await.unwrap().until, Some(later(3_600)));
    let error = write(json!({ "executable": {} }), false).check(NOW).await.unwrap_err();
    assert!(error.to_string().contains("only a credential_source with a file"));
}

#[tokio::test]
async fn the_metadata_server_of_google_says_who_it_is() {
    let authority = Authority::start(|asked, before| {
        assert_eq!(asked.path, "/computeMetadata/v1/instance/service-accounts/default/token");
        assert_eq!(asked.header("metadata-flavor"), "Google");
        let flavor = if before == 0 { Vec::new() } else { vec![("metadata-flavor", "Google".to_owned())] };
        (200, flavor, "{\"access_token\":\"SECRET\",\"expires_in\":1800,\"token_type\":\"Bearer\"}".to_owned())
    })
    .await;
    let host = authority.address.to_string();
    let credential = try_made("kind = \"google-default\"", &[("GCE_METADATA_HOST", &host)]).unwrap();
    assert!(told(&credential.check(NOW).await.unwrap_err()).contains("does not say that it is Google's"));
    assert_eq!(authorization(&credential, later(5)).await, "Bearer SECRET");
    let file = ("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file");
    let credential = try_made("kind = \"google-default\"", &[file]).unwrap();
    assert!(told(&credential.check(NOW).await.unwrap_err()).contains("/no/such/file"));
}

#[tokio::test]
async fn an_application_of_entra_proves_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("secret"), "SECRET~1").unwrap();
    fs::write(path("token"), "SECRET.jwt").unwrap();
    let authority = Authority::start(|asked, _| {
        assert_eq!(asked.path, "/the-tenant/oauth2/v2.0/token");
        let form = asked.form();
        assert_eq!((form["grant_type"].as_str(), form["client_id"].as_str()), ("client_credentials", "the-app"));
        assert_eq!(form["scope"], "https://cognitiveservices.azure.com/.default");
        let token = match form.get("client_assertion") {
            Some(assertion) => {
                assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                assertion.clone()
            }
            None => form["client_secret"].clone(),
        };
        if token == "SECRET~2" {
            let error =
                format!("{{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: not {token}\"}}");
            return (401, Vec::new(), error);
        }
        ok(format!(
            "{{\"token_type\":\"Bearer\",\"expires_in\":3599,\"ext_expires_in\":3599,\"access_token\":\"for-{token}\"}}"
        ))
    })
    .await;
    let variables = [("AZURE_TENANT_ID", "the-tenant"), ("AZURE_CLIENT_ID", "the-app")];
    let text =
        format!("kind = \"entra-secret\"\nsecret = \"file:{}\"\nauthority = \"{}\"", path("secret"), authority.url(""));
    let credential = try_made(&text, &variables).unwrap();
    assert_eq!(authorization(&credential, NOW).await, "Bearer for-SECRET~1");
    // A new secret that is wrong: the old token is used while it is good.
    fs::write(path("secret"), "SECRET~2 ").unwrap();
    assert_eq!(authorization(&credential, NOW).await, "Bearer for-SECRET~1");
    assert_eq!(authority.count(), 2);
    let told = told(&credential.check(later(3_600)).await.unwrap_err());
    assert!(told.contains("invalid_client AADSTS7000215: not [secret]") && !told.contains("SECRET"), "{told}");

    let authority_host = authority.url("");
    let file = path("token");
    let more =
        [variables[0], variables[1], ("AZURE_AUTHORITY_HOST", &authority_host), ("AZURE_FEDERATED_TOKEN_FILE", &file)];
    let credential = try_made("kind = \"entra-federated\"", &more).unwrap();
    assert_eq!(authorization(&credential, NOW).await, "Bearer for-SECRET.jwt");
    let odd = [("AZURE_TENANT_ID", "../x"), ("AZURE_CLIENT_ID", "a"), more[2], more[3]];
    let error = try_made("kind = \"entra-federated\"", &odd).unwrap().check(NOW).await;
    assert!(error.is_err() && authority.asked().last().unwrap().path != "/x/oauth2/v2.0/token");
}

#[tokio::test]
async fn a_managed_identity_comes_from_the_machine_or_the_app() {
    let authority = Authority::start(|asked, _| {
        assert_eq!(asked.header("metadata"), "true");
        assert_eq!(asked.query["resource"], "https://cognitiveservices.azure.com");
        match asked.path.as_str() {
            "/metadata/identity/oauth2/token" => {
                assert_eq!(asked.query["api-version"], "2018-02-01");
                assert_eq!(asked.query["client_id"], "mine");
                ok("{\"access_token\":\"machine\",\"expires_in\":\"86399\",\"expires_on\":\"1790086399\"}")
            }
            "/msi/token" => {
                assert_eq!(asked.query["api-version"], "2019-08-01");
                assert_eq!(asked.header("x-identity-header"), "SECRET");
                ok("{\"access_token\":\"app\",\"expires_on\":\"1790003600\",\"token_type\":\"Bearer\"}")
            }
            _ => (404, Vec::new(), String::new()),
        }
    })
    .await;
    let text = format!("kind = \"entra-managed\"\nclient_id = \"mine\"\nendpoint = \"{}\"", authority.url(""));
    let credential = made(&text);
    assert_eq!(authorization(&credential, NOW).await, "Bearer machine");
    assert_eq!(credential.check(NOW).await.unwrap().until, Some(later(86_399)));
    let endpoint = authority.url("msi/token");
    let told = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "SECRET")];
    let credential = try_made("kind = \"entra-managed\"", &told).unwrap();
    assert_eq!(signed(&credential, NOW).await.unwrap()["authorization"], "Bearer app");
    assert_eq!(credential.check(NOW).await.unwrap().until, Some(later(3_600)));
}
