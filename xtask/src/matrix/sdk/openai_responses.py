"""OpenAI's SDK at work with responses: a loop with one tool, encrypted reasoning, every second turn streamed."""
import json, subprocess, sys
import openai

base, key, model, prompt = sys.argv[1:5]
client = openai.OpenAI(base_url=base, api_key=key, max_retries=0)
tools = [{"type": "function", "name": "bash", "description": "Runs a command.", "strict": True, "parameters": {
    "type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"], "additionalProperties": False}}]
items = [{"role": "user", "content": prompt}]
for turn in range(6):
    asked = dict(model=model, instructions="You are careful.", input=items, tools=tools, store=False,
                 include=["reasoning.encrypted_content"], reasoning={"effort": "low", "summary": "auto"})
    if turn % 2:
        answer = client.responses.create(**asked)
    else:
        with client.responses.stream(**asked) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_response()
    assert answer.usage.output_tokens > 0, answer.usage
    calls = [item for item in answer.output if item.type == "function_call"]
    for item in answer.output:
        items.append({name: value for name, value in item.model_dump(exclude_none=True).items()
                      if name not in ("status", "parsed_arguments", "parsed") or item.type == "message"})
    for item in items:
        for part in item.get("content") if isinstance(item.get("content"), list) else []:
            part.pop("parsed", None)
    if not calls:
        assert answer.status == "completed", answer.status
        print(answer.output_text)
        break
    for call in calls:
        ran = subprocess.run(json.loads(call.arguments)["command"], shell=True, capture_output=True, text=True)
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": ran.stdout or "done"})
else:
    sys.exit("too many turns")
