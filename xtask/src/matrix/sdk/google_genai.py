"""Google's SDK at work: a loop with one tool, thoughts shown, every second turn streamed."""
import subprocess, sys
from google import genai
from google.genai import types

base, key, model, prompt, vertex = (sys.argv[1:6] + [""])[:5]
if vertex:
    import google.auth.credentials
    class Fixed(google.auth.credentials.Credentials):
        def refresh(self, request):
            self.token = key
    credentials = Fixed()
    credentials.token = key
    client = genai.Client(vertexai=True, project="p", location="us-east5", credentials=credentials,
                          http_options=types.HttpOptions(base_url=base))
else:
    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=base, api_version="v1beta"))
tool = types.Tool(function_declarations=[types.FunctionDeclaration(
    name="bash", description="Runs a command.",
    parameters=types.Schema(type="OBJECT", properties={"command": types.Schema(type="STRING")}, required=["command"]))])
config = types.GenerateContentConfig(
    system_instruction="You are careful.", tools=[tool], max_output_tokens=4096,
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    thinking_config=types.ThinkingConfig(include_thoughts=True))
contents = [types.Content(role="user", parts=[types.Part(text=prompt)])]
for turn in range(6):
    parts, usage = [], None
    if turn % 2:
        answer = client.models.generate_content(model=model, contents=contents, config=config)
        parts, usage = list(answer.candidates[0].content.parts), answer.usage_metadata
    else:
        for chunk in client.models.generate_content_stream(model=model, contents=contents, config=config):
            usage = chunk.usage_metadata or usage
            if chunk.candidates and chunk.candidates[0].content and chunk.candidates[0].content.parts:
                parts += chunk.candidates[0].content.parts
    assert usage.prompt_token_count > 0, usage
    contents.append(types.Content(role="model", parts=parts))
    calls = [part.function_call for part in parts if part.function_call]
    if not calls:
        print("".join(part.text or "" for part in parts if not part.thought))
        break
    answers = []
    for call in calls:
        ran = subprocess.run(call.args["command"], shell=True, capture_output=True, text=True)
        answers.append(types.Part(function_response=types.FunctionResponse(
            name=call.name, id=call.id, response={"output": ran.stdout or "done"})))
    contents.append(types.Content(role="user", parts=answers))
else:
    sys.exit("too many turns")
