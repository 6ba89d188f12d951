"""OpenAI's SDK at work with chat completions: a loop with one tool, every second turn streamed."""
import json, subprocess, sys
import openai

base, key, model, prompt, azure = (sys.argv[1:6] + [""])[:5]
if azure:
    client = openai.AzureOpenAI(azure_endpoint=base, api_key=key, api_version="2025-04-01-preview", max_retries=0)
else:
    client = openai.OpenAI(base_url=base, api_key=key, max_retries=0)
tools = [{"type": "function", "function": {"name": "bash", "description": "Runs a command.", "parameters": {
    "type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}}}]
messages = [{"role": "system", "content": "You are careful."}, {"role": "user", "content": prompt}]
for turn in range(6):
    asked = dict(model=model, messages=messages, tools=tools, tool_choice="auto", max_completion_tokens=4096)
    if turn % 2:
        answer = client.chat.completions.create(**asked)
    else:
        with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_completion()
    assert answer.usage.completion_tokens > 0, answer.usage
    message = answer.choices[0].message
    if not message.tool_calls:
        assert answer.choices[0].finish_reason == "stop", answer.choices[0].finish_reason
        print(message.content)
        break
    assert answer.choices[0].finish_reason == "tool_calls", answer.choices[0].finish_reason
    messages.append({"role": "assistant", "content": message.content, "tool_calls": [
        {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}}
        for call in message.tool_calls]})
    for call in message.tool_calls:
        command = json.loads(call.function.arguments)["command"]
        ran = subprocess.run(command, shell=True, capture_output=True, text=True)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": ran.stdout or "done"})
else:
    sys.exit("too many turns")
