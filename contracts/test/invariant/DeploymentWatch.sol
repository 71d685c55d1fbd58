// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelDeployment} from "../../src/ModelDeployment.sol";
import {IModelDeployment} from "../../src/interfaces/IModelDeployment.sol";
import {IModelRepository} from "../../src/interfaces/IModelRepository.sol";
import {Test} from "../Test.sol";

/// @title Remembers every deployment and request, and compares after each call: only what the interface allows may change, and in time.
contract DeploymentWatch is Test {
    ModelDeployment private immutable deployments;

    uint256 public deploymentCount;
    uint256 public requestCount;
    mapping(uint256 deploymentId => IModelDeployment.Deployment) private known;
    mapping(uint256 requestId => IModelDeployment.Request) private requests;

    /// What each deployment's requests came to.
    mapping(uint256 deploymentId => uint256 count) public answered;
    mapping(uint256 deploymentId => uint256 count) public expired;

    constructor(ModelDeployment deployments_) {
        deployments = deployments_;
    }

    /// @dev After every call: what may still change.
    function look() external {
        vm.assertGe(deployments.requestCount(), requestCount, "requests vanished");
        vm.assertGe(deployments.deploymentCount(), deploymentCount, "deployments vanished");
        for (uint256 id = 1; id <= requestCount; id++) {
            if (requests[id].state == IModelDeployment.RequestState.Waiting) compareRequest(id);
        }
        while (requestCount < deployments.requestCount()) meetRequest(++requestCount);
        for (uint256 id = 1; id <= deploymentCount; id++) {
            compareDeployment(id);
        }
        while (deploymentCount < deployments.deploymentCount()) meetDeployment(++deploymentCount);
    }

    /// @dev At the end: what should not have changed any more.
    function lookBack() external view {
        for (uint256 id = 1; id <= requestCount; id++) {
            vm.assertEq(keccak256(abi.encode(deployments.request(id))), keccak256(abi.encode(requests[id])), "an ended request changed");
        }
    }

    function meetDeployment(uint256 id) private {
        IModelDeployment.Deployment memory present = deployments.deployment(id);
        IModelRepository.Model memory model = deployments.repository().model(present.modelId);
        vm.assertTrue(model.isTrained, "an untrained model is served");
        vm.assertEq(present.lender, model.lender, "somebody else's model is served");
        vm.assertEq(present.weightsDigest, model.weightsDigest, "other weights are served");
        vm.assertFalse(present.isRetired, "retired at once");
        vm.assertGe(present.answerWindow, deployments.minimumWindow(), "the window is too short");
        vm.assertLe(present.answerWindow, 14 days, "the window is too long");
        known[id] = present;
    }

    function compareDeployment(uint256 id) private {
        IModelDeployment.Deployment memory before = known[id];
        IModelDeployment.Deployment memory present = deployments.deployment(id);
        vm.assertTrue(!before.isRetired || present.isRetired, "a retired deployment came back");
        before.isRetired = present.isRetired;
        vm.assertEq(keccak256(abi.encode(present)), keccak256(abi.encode(before)), "the conditions changed");
        known[id] = present;
    }

    function meetRequest(uint256 id) private {
        IModelDeployment.Request memory present = deployments.request(id);
        IModelDeployment.Deployment memory asked = known[present.deploymentId];
        vm.assertTrue(asked.lender != address(0) && !asked.isRetired, "a request of what is not served");
        vm.assertTrue(present.state == IModelDeployment.RequestState.Waiting, "a request made a forbidden transition");
        vm.assertEq(present.deadline, block.timestamp + asked.answerWindow, "the deadline is not the window's end");
        requests[id] = present;
    }

    function compareRequest(uint256 id) private {
        IModelDeployment.Request memory before = requests[id];
        IModelDeployment.Request memory present = deployments.request(id);
        if (present.state == IModelDeployment.RequestState.Answered) {
            vm.assertLe(block.timestamp, before.deadline, "answered too late");
            vm.assertTrue(present.answerDigest != bytes32(0), "answered with nothing");
            answered[before.deploymentId] += 1;
        } else if (present.state == IModelDeployment.RequestState.Expired) {
            vm.assertTrue(block.timestamp > before.deadline, "expired too early");
            vm.assertEq(present.answerDigest, bytes32(0), "expired with an answer");
            expired[before.deploymentId] += 1;
        } else {
            vm.assertTrue(present.state == IModelDeployment.RequestState.Waiting, "a request made a forbidden transition");
        }
        (before.state, before.answerDigest) = (present.state, present.answerDigest);
        vm.assertEq(keccak256(abi.encode(present)), keccak256(abi.encode(before)), "what was asked changed");
        requests[id] = present;
    }
}
