//! People, as an administrator lets them in: an access token, with which a person signs in.

use secrecy::SecretString;
use stockade_api::{
    domain::{Role, ids::UserId},
    http::CreateToken,
};

use super::{Context, run};
use crate::{args, failure::Outcome, home::SecretFile};

pub async fn main(context: &Context, command: args::Person) -> Outcome {
    let args::Person::Add { name, roles, label, expires, out } = command;
    let roles: Vec<Role> =
        Role::ALL.into_iter().filter(|role| roles.iter().any(|word| word == role.as_str())).collect();
    if roles.is_empty() {
        context
            .output
            .remark(&format!("if {name} is new here, this person may do nothing: say what they may be with --role"));
    }
    let expires_in_s = expires.as_deref().map(run::duration_ms).transpose()?.map(|ms| ms / 1_000);
    let file = out.as_deref().map(SecretFile::new).transpose()?;
    let body = CreateToken { user: name.clone(), roles, label, expires_in_s };
    let created = context.client()?.create_token(&body).await?;
    let user: UserId = created.user;
    if let (Some(file), Some(path)) = (file, &out) {
        file.write(&SecretString::from(created.token))?;
        let about = serde_json::json!({"id": created.id, "user": user, "expires_at": created.expires_at});
        return context.output.show(&about, |_| {
            let path = path.display();
            format!("the access token of {name} ({user}) is in {path}, which only you can read: hand it over, and `stockade login < FILE` takes it")
        });
    }
    context.output.remark(&format!("{name} ({user}): keep this access token, it is shown only now."));
    context.output.show(&created, |created| created.token.clone())
}
