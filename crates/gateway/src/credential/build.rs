//! From the configuration and the variables that platforms set to a way of proving who we are.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use super::{
    Surroundings, Way,
    aws::{AssumedRole, Container, ContainerToken, Instance, Keys, Profile, Scope, Static, WebIdentity},
    config::{CredentialConfig as Config, KeyHeader},
    entra::{self, Application, Managed, Proof},
    error::CredentialError,
    google::{KeyFile, Metadata},
    keeper::{Keeper, Source},
    outside::{Outside, address},
    secret::{Secret, SecretRef},
};

const METADATA: &str = "http://169.254.169.254/";
const CONTAINERS: &str = "http://169.254.170.2/";
const ENTRA: &str = "https://login.microsoftonline.com/";
const BEDROCK_KEY: &str = "AWS_BEARER_TOKEN_BEDROCK";

type Made = Result<(Way, String), CredentialError>;

/// The way that `config` describes, and what it is called.
pub(super) fn way(config: &Config, around: &Surroundings) -> Made {
    let with = With(around);
    match config {
        Config::None => Ok((Way::None, "no credential".to_owned())),
        Config::Key { header, secret } => Ok(key(*header, secret)),
        Config::AwsBearer { secret } => Ok(key(KeyHeader::Bearer, &or_variable(secret, BEDROCK_KEY))),
        Config::AwsStatic { region, service, access_key_id, secret_access_key, session_token } => {
            let session = session_token
                .clone()
                .or_else(|| with.get("AWS_SESSION_TOKEN").map(|_| SecretRef::Variable("AWS_SESSION_TOKEN".to_owned())));
            let source = Static {
                id: Secret::new(&or_variable(access_key_id, "AWS_ACCESS_KEY_ID")),
                secret: Secret::new(&or_variable(secret_access_key, "AWS_SECRET_ACCESS_KEY")),
                session: session.as_ref().map(Secret::new),
            };
            with.aws(source, region, service, "access keys of Amazon".to_owned())
        }
        Config::AwsProfile { region, service, profile, credentials_file, config_file } => {
            let name = profile.clone().or_else(|| with.get("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned());
            let file = |given: &Option<PathBuf>, variable: &str, usual: &str| {
                let named = given.clone().or_else(|| with.get(variable).map(PathBuf::from));
                named.or_else(|| Some(with.home()?.join(".aws").join(usual))).ok_or(CredentialError::Missing {
                    what: "the file of the profile",
                    hint: "give credentials_file and config_file, or set HOME",
                })
            };
            let credentials = file(credentials_file, "AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
            let config = file(config_file, "AWS_CONFIG_FILE", "config")?;
            let about = format!("the profile `{name}` of Amazon");
            with.aws(Profile { name, credentials, config }, region, service, about)
        }
        Config::AwsWebIdentity { region, service, role_arn, token_file, session_name, endpoint } => {
            let role = with.text(role_arn, "AWS_ROLE_ARN", "the role", "give role_arn, or set AWS_ROLE_ARN")?;
            let token_file = with.path(
                token_file,
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "the token's file",
                "give token_file, or set AWS_WEB_IDENTITY_TOKEN_FILE",
            )?;
            let session_name = session_name.clone().or_else(|| with.get("AWS_ROLE_SESSION_NAME"));
            let about = format!("the role {role} of Amazon, by web identity");
            let source = WebIdentity {
                outside: with.outside(),
                endpoint: endpoint_of("the security token service", endpoint, &sts(&with.region(region)?))?,
                role,
                session_name: session_name.unwrap_or_else(|| "stockade".to_owned()),
                token_file,
            };
            with.aws(source, region, service, about)
        }
        Config::AwsInstance { region, service, endpoint } => {
            let endpoint = endpoint_of("the instance metadata service", endpoint, METADATA)?;
            let source = Instance { outside: with.outside(), endpoint };
            with.aws(source, region, service, "the role of this instance of Amazon".to_owned())
        }
        Config::AwsContainer { region, service, endpoint } => {
            let source = container(&with, endpoint)?;
            with.aws(source, region, service, "the role of this container of Amazon".to_owned())
        }
        Config::AwsRole { region, service, role_arn, external_id, session_name, endpoint, from } => {
            let first = match from {
                Some(from) => way(from, around)?.0,
                None => way(&Config::AwsDefault { region: region.clone(), service: None }, around)?.0,
            };
            let Way::Aws { keys, .. } = first else {
                let hint = "let `from` be one of Amazon's other ways that give access keys";
                return Err(CredentialError::Missing { what: "the keys to assume the role with", hint });
            };
            let about = format!("the role {role_arn} of Amazon, assumed");
            let region_name = with.region(region)?;
            let source = AssumedRole {
                outside: with.outside(),
                endpoint: endpoint_of("the security token service", endpoint, &sts(&region_name))?,
                region: region_name,
                role: role_arn.clone(),
                session_name: session_name.clone().unwrap_or_else(|| "stockade".to_owned()),
                external_id: external_id.clone(),
                from: keys,
            };
            with.aws(source, region, service, about)
        }
        Config::AwsDefault { region, service } => way(&aws_default(&with, region, service), around),
        Config::GoogleFile { file, endpoint } => {
            let name = "GOOGLE_APPLICATION_CREDENTIALS";
            let path =
                with.path(file, name, "Google's credentials file", "give file, or set GOOGLE_APPLICATION_CREDENTIALS")?;
            let about = format!("Google's credentials file {}", path.display());
            let endpoint = endpoint.as_deref().map(|text| address("Google's token endpoint", text)).transpose()?;
            let source = KeyFile { outside: with.outside(), path, endpoint };
            Ok((Way::Bearer(Keeper::new(source)), about))
        }
        Config::GoogleMetadata { endpoint } => {
            let host = with.get("GCE_METADATA_HOST").map(|host| format!("http://{host}/"));
            let usual = host.unwrap_or_else(|| METADATA.to_owned());
            let endpoint = endpoint_of("the metadata server", endpoint, &usual)?;
            let source = Metadata { outside: with.outside(), endpoint };
            Ok((Way::Bearer(Keeper::new(source)), "the service account of this machine at Google".to_owned()))
        }
        Config::GoogleDefault => {
            let config = match with.get("GOOGLE_APPLICATION_CREDENTIALS") {
                Some(_) => Config::GoogleFile { file: None, endpoint: None },
                None => Config::GoogleMetadata { endpoint: None },
            };
            way(&config, around)
        }
        Config::EntraSecret { tenant, client_id, secret, authority, scope } => {
            let proof = Proof::Secret(Secret::new(&or_variable(secret, "AZURE_CLIENT_SECRET")));
            with.entra(tenant, client_id, authority, scope, proof, "its secret")
        }
        Config::EntraFederated { tenant, client_id, token_file, authority, scope } => {
            let path = with.path(
                token_file,
                "AZURE_FEDERATED_TOKEN_FILE",
                "the token's file",
                "give token_file, or set AZURE_FEDERATED_TOKEN_FILE",
            )?;
            with.entra(tenant, client_id, authority, scope, Proof::Federated(path), "a federated token")
        }
        Config::EntraManaged { client_id, endpoint, scope } => {
            let source = managed(&with, client_id.as_deref(), endpoint, scope.as_deref())?;
            Ok((Way::Bearer(Keeper::new(source)), "the managed identity of this machine at Azure".to_owned()))
        }
    }
}

fn key(header: KeyHeader, secret: &SecretRef) -> (Way, String) {
    let about = match secret {
        SecretRef::File(path) => format!("the key in {}", path.display()),
        SecretRef::Variable(name) => format!("the key in the environment variable `{name}`"),
        SecretRef::Command(words) => {
            format!("the key that `{}` prints", words.first().map(String::as_str).unwrap_or_default())
        }
    };
    (Way::Header { header, secret: Secret::new(secret) }, about)
}

fn or_variable(secret: &Option<SecretRef>, name: &str) -> SecretRef {
    secret.clone().unwrap_or_else(|| SecretRef::Variable(name.to_owned()))
}

fn aws_default(with: &With<'_>, region: &Option<String>, service: &Option<String>) -> Config {
    let (region, service) = (region.clone(), service.clone());
    let is = |name: &str| with.get(name).is_some();
    let profiles = || with.home().is_some_and(|home| home.join(".aws/credentials").is_file());
    if is(BEDROCK_KEY) {
        Config::AwsBearer { secret: None }
    } else if is("AWS_ACCESS_KEY_ID") && is("AWS_SECRET_ACCESS_KEY") {
        Config::AwsStatic { region, service, access_key_id: None, secret_access_key: None, session_token: None }
    } else if is("AWS_WEB_IDENTITY_TOKEN_FILE") && is("AWS_ROLE_ARN") {
        Config::AwsWebIdentity { region, service, role_arn: None, token_file: None, session_name: None, endpoint: None }
    } else if is("AWS_PROFILE") || is("AWS_SHARED_CREDENTIALS_FILE") || profiles() {
        Config::AwsProfile { region, service, profile: None, credentials_file: None, config_file: None }
    } else if is("AWS_CONTAINER_CREDENTIALS_FULL_URI") || is("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        Config::AwsContainer { region, service, endpoint: None }
    } else {
        Config::AwsInstance { region, service, endpoint: None }
    }
}

fn container(with: &With<'_>, endpoint: &Option<String>) -> Result<Container, CredentialError> {
    let what = "the container credentials endpoint";
    let full = with.get("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let relative = with.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let relative = relative.map(|path| format!("{CONTAINERS}{}", path.trim_start_matches('/')));
    let usual = relative.or(full).unwrap_or_default();
    if endpoint.is_none() && usual.is_empty() {
        let hint = "it is known only within ECS and EKS Pod Identity, where AWS_CONTAINER_CREDENTIALS_FULL_URI or \
                    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI are set";
        return Err(CredentialError::Missing { what, hint });
    }
    let file = with.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| ContainerToken::File(path.into()));
    let text = with.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|text| ContainerToken::Text(SecretString::from(text)));
    Ok(Container { outside: with.outside(), url: endpoint_of(what, endpoint, &usual)?, token: file.or(text) })
}

fn managed(
    with: &With<'_>,
    client: Option<&str>,
    endpoint: &Option<String>,
    scope: Option<&str>,
) -> Result<Managed, CredentialError> {
    let what = "the managed identity endpoint";
    let scope = scope.unwrap_or(entra::SCOPE);
    // Apps and containers are told their endpoint; its answers have another version.
    let told = with.get("IDENTITY_ENDPOINT").zip(with.get("IDENTITY_HEADER"));
    if let (None, Some((address, secret))) = (endpoint, told) {
        let url = Managed::address(endpoint_of(what, &None, &address)?, "2019-08-01", scope, client);
        return Ok(Managed { outside: with.outside(), url, secret: Some(SecretString::from(secret)) });
    }
    let base = endpoint_of(what, endpoint, METADATA)?;
    let base = base.join("metadata/identity/oauth2/token").map_err(|_| no_address(what, &base))?;
    let url = Managed::address(base, "2018-02-01", scope, client);
    Ok(Managed { outside: with.outside(), url, secret: None })
}

/// The region's security token service.
fn sts(region: &str) -> String {
    let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://sts.{region}.{end}/")
}

/// The address that was given, or else the usual one; secrets may be sent to it.
fn endpoint_of(what: &'static str, given: &Option<String>, usual: &str) -> Result<Url, CredentialError> {
    address(what, given.as_deref().unwrap_or(usual))
}

fn no_address(what: &'static str, base: &Url) -> CredentialError {
    CredentialError::Address { what, address: base.to_string(), why: "expected an address that has a path" }
}

struct With<'a>(&'a Surroundings);

impl With<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0.variables)(name).filter(|value| !value.is_empty())
    }

    fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    fn outside(&self) -> Outside {
        self.0.outside.clone()
    }

    fn text(
        &self,
        given: &Option<String>,
        variable: &str,
        what: &'static str,
        hint: &'static str,
    ) -> Result<String, CredentialError> {
        given.clone().or_else(|| self.get(variable)).ok_or(CredentialError::Missing { what, hint })
    }

    fn path(
        &self,
        given: &Option<PathBuf>,
        variable: &str,
        what: &'static str,
        hint: &'static str,
    ) -> Result<PathBuf, CredentialError> {
        let named = given.clone().or_else(|| self.get(variable).map(PathBuf::from));
        named.ok_or(CredentialError::Missing { what, hint })
    }

    fn region(&self, given: &Option<String>) -> Result<String, CredentialError> {
        let region = given.clone().or_else(|| self.get("AWS_REGION")).or_else(|| self.get("AWS_DEFAULT_REGION"));
        let good = |region: &String| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        region.filter(good).ok_or(CredentialError::Missing {
            what: "the region of Amazon",
            hint: "give region (letters, digits and `-`), or set AWS_REGION",
        })
    }

    fn aws(
        &self,
        source: impl Source<Keys> + 'static,
        region: &Option<String>,
        service: &Option<String>,
        about: String,
    ) -> Made {
        let service = service.clone().unwrap_or_else(|| "bedrock".to_owned());
        let scope = Scope { region: self.region(region)?, service };
        Ok((Way::Aws { keys: Keeper::new(source), scope }, about))
    }

    fn entra(
        &self,
        tenant: &Option<String>,
        client: &Option<String>,
        authority: &Option<String>,
        scope: &Option<String>,
        proof: Proof,
        by: &str,
    ) -> Made {
        let what = "Entra ID";
        let tenant = self.text(tenant, "AZURE_TENANT_ID", "the tenant", "give tenant, or set AZURE_TENANT_ID")?;
        let hint = "give client_id, or set AZURE_CLIENT_ID";
        let client = self.text(client, "AZURE_CLIENT_ID", "the application's id", hint)?;
        let usual = self.get("AZURE_AUTHORITY_HOST").unwrap_or_else(|| ENTRA.to_owned());
        let mut endpoint = endpoint_of(what, authority, &usual)?;
        let base = endpoint.clone();
        // As segments, so that nobody's tenant is a path.
        let mut path = endpoint.path_segments_mut().map_err(|()| no_address(what, &base))?;
        path.pop_if_empty().extend([tenant.as_str(), "oauth2", "v2.0", "token"]);
        drop(path);
        let scope = scope.clone().unwrap_or_else(|| entra::SCOPE.to_owned());
        let about = format!("the application {client} of Entra ID, by {by}");
        let source = Application { outside: self.outside(), endpoint, client, scope, proof };
        Ok((Way::Bearer(Keeper::new(source)), about))
    }
}
