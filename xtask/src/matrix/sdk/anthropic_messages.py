"""Anthropic's SDK at work: a loop with one tool, reasoning on, every second turn streamed."""
import subprocess, sys
import anthropic

base, key, model, prompt = sys.argv[1:5]
client = anthropic.Anthropic(base_url=base, auth_token=key, api_key=None, max_retries=0)
tools = [{"name": "bash", "description": "Runs a command.", "input_schema": {
    "type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}}]
system = [{"type": "text", "text": "You are careful.", "cache_control": {"type": "ephemeral"}}]
messages = [{"role": "user", "content": prompt}]
for turn in range(6):
    asked = dict(model=model, max_tokens=4096, system=system, tools=tools, messages=messages,
                 thinking={"type": "enabled", "budget_tokens": 2048})
    if turn % 2:
        answer = client.messages.create(**asked)
    else:
        with client.messages.stream(**asked) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_message()
    messages.append({"role": "assistant", "content": answer.content})
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert answer.usage.output_tokens > 0, answer.usage
    if not calls:
        assert answer.stop_reason == "end_turn", answer.stop_reason
        print(answer.content[-1].text)
        break
    assert answer.stop_reason == "tool_use", answer.stop_reason
    results = []
    for call in calls:
        ran = subprocess.run(call.input["command"], shell=True, capture_output=True, text=True)
        results.append({"type": "tool_result", "tool_use_id": call.id, "content": ran.stdout or "done"})
    messages.append({"role": "user", "content": results})
else:
    sys.exit("too many turns")
