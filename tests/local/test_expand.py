"""`python -m local.expand` prints the template for the scanners."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local.expand import expand, main

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Api:
    Type: AWS::Serverless::Api
    Metadata: {checkov: {skip: [{id: CKV_AWS_120, comment: no cache}]}}
    Properties: {StageName: v1}
  ApiLog: {Type: AWS::Logs::LogGroup}
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Runtime: python3.13
      Handler: app.handler
      Events: {Get: {Type: Api, Properties: {RestApiId: !Ref Api, Method: GET, Path: /get}}}
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    return path


def test_what_sam_makes_of_a_resource_is_skipped_for_its_reasons(template: Path) -> None:
    resources = expand(template)["Resources"]
    reasons = {"checkov": {"skip": [{"id": "CKV_AWS_120", "comment": "no cache"}]}}
    assert resources["Apiv1Stage"]["Metadata"] == reasons
    assert "Metadata" not in resources["FRole"]


def test_a_resource_with_a_similar_name_is_not_skipped(template: Path) -> None:
    assert "Metadata" not in expand(template)["Resources"]["ApiLog"]


def test_it_is_printed_as_json(template: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--template", str(template)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(expand(template)))


def test_a_template_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--template", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.startswith("expand: ")
