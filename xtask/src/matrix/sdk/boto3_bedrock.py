"""AWS's SDK at work, with Converse or with Anthropic's own bodies by InvokeModel: a loop with one tool, reasoning on, every
second turn streamed."""
import json, subprocess, sys
import boto3
from botocore import UNSIGNED
from botocore.config import Config

base, key, model, prompt, way, auth = sys.argv[1:7]
config = Config(retries={"total_max_attempts": 1})
if auth == "bearer":
    # The SDK has no bearer tokens over plain HTTP, which is all that there is on loopback: the header is put on by hand.
    config = config.merge(Config(signature_version=UNSIGNED))
client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=base, config=config,
                      aws_access_key_id=key, aws_secret_access_key="not a secret")
if auth == "bearer":
    def bear(request, **_):
        request.headers["Authorization"] = f"Bearer {key}"
    client.meta.events.register("before-send.bedrock-runtime", bear)
schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}

def run(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout or "done"

def converse(turn, messages):
    asked = dict(
        modelId=model, messages=messages, system=[{"text": "You are careful."}], inferenceConfig={"maxTokens": 4096},
        toolConfig={"tools": [{"toolSpec": {"name": "bash", "description": "Runs a command.", "inputSchema": {"json": schema}}}]},
        additionalModelRequestFields={"thinking": {"type": "enabled", "budget_tokens": 2048}})
    if turn % 2:
        answer = client.converse(**asked)
        assert answer["usage"]["outputTokens"] > 0, answer["usage"]
        return answer["output"]["message"]["content"], answer["stopReason"]
    blocks, stop, usage = {}, None, None
    for event in client.converse_stream(**asked)["stream"]:
        if "contentBlockStart" in event:
            start = event["contentBlockStart"]
            blocks[start["contentBlockIndex"]] = {"toolUse": {**start["start"]["toolUse"], "input": ""}}
        elif "contentBlockDelta" in event:
            delta, at = event["contentBlockDelta"]["delta"], event["contentBlockDelta"]["contentBlockIndex"]
            if "text" in delta:
                blocks.setdefault(at, {"text": ""})["text"] += delta["text"]
            elif "toolUse" in delta:
                blocks[at]["toolUse"]["input"] += delta["toolUse"]["input"]
            else:
                said = blocks.setdefault(at, {"reasoningContent": {"reasoningText": {"text": ""}}})
                said = said["reasoningContent"]["reasoningText"]
                for name, value in delta["reasoningContent"].items():
                    said[name] = said.get(name, "") + value
        elif "messageStop" in event:
            stop = event["messageStop"]["stopReason"]
        elif "metadata" in event:
            usage = event["metadata"]["usage"]
    assert usage["outputTokens"] > 0, usage
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    return [blocks[at] for at in sorted(blocks)], stop

def invoke(turn, messages):
    body = json.dumps({
        "anthropic_version": "bedrock-2023-05-31", "max_tokens": 4096, "messages": messages, "system": "You are careful.",
        "tools": [{"name": "bash", "description": "Runs a command.", "input_schema": schema}],
        "thinking": {"type": "enabled", "budget_tokens": 2048}})
    if turn % 2:
        answer = json.loads(client.invoke_model(modelId=model, body=body, contentType="application/json")["body"].read())
        assert answer["usage"]["output_tokens"] > 0, answer["usage"]
        return answer["content"], answer["stop_reason"]
    blocks, stop = [], None
    stream = client.invoke_model_with_response_stream(modelId=model, body=body, contentType="application/json")
    for frame in stream["body"]:
        event = json.loads(frame["chunk"]["bytes"])
        if event["type"] == "content_block_start":
            blocks.append({**event["content_block"], **({"input": ""} if "input" in event["content_block"] else {})})
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            for name, to in (("text", "text"), ("thinking", "thinking"), ("signature", "signature"), ("partial_json", "input")):
                if name in delta:
                    blocks[event["index"]][to] = blocks[event["index"]].get(to, "") + delta[name]
        elif event["type"] == "message_delta":
            stop = event["delta"]["stop_reason"]
            assert event["usage"]["output_tokens"] > 0, event
    for block in blocks:
        if "input" in block:
            block["input"] = json.loads(block["input"] or "{}")
    return blocks, stop

if way.startswith("converse"):
    messages = [{"role": "user", "content": [{"text": prompt}]}]
else:
    messages = [{"role": "user", "content": prompt}]
for turn in range(6):
    content, stop = (converse if way.startswith("converse") else invoke)(turn, messages)
    messages.append({"role": "assistant", "content": content})
    results = []
    for block in content:
        if "toolUse" in block:
            results.append({"toolResult": {"toolUseId": block["toolUse"]["toolUseId"],
                                           "content": [{"text": run(block["toolUse"]["input"]["command"])}]}})
        elif block.get("type") == "tool_use":
            results.append({"type": "tool_result", "tool_use_id": block["id"], "content": run(block["input"]["command"])})
    if not results:
        assert stop == "end_turn", stop
        print(content[-1]["text"])
        break
    assert stop == "tool_use", stop
    messages.append({"role": "user", "content": results})
else:
    sys.exit("too many turns")
