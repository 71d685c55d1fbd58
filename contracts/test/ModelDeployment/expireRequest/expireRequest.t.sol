// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelDeployment} from "../../../src/interfaces/IModelDeployment.sol";
import {Vm} from "../../Vm.sol";
import {Refuser} from "../../invariant/Payees.sol";
import {ServingBase} from "../ServingBase.sol";

contract ExpireRequestTest is ServingBase {
    function test_RevertGiven_TheRequestIsNotWaiting() external {
        requestId = 9;
        refuseExpiry(IModelDeployment.RequestState.None);
        givenAnswered();
        passAnswerDeadline();
        refuseExpiry(IModelDeployment.RequestState.Answered);
        assertHeld(0, FEE, 0);
        givenExpired();
        refuseExpiry(IModelDeployment.RequestState.Expired);
        assertHeld(0, FEE, FEE);
    }

    function test_RevertGiven_TheWindowIsOpen() external {
        givenWaiting();
        refuseEarly();
        vm.warp(deployments.request(requestId).deadline);
        refuseEarly();
        assertHeld(FEE, 0, 0);
    }

    function test_GivenTheDeploymentIsRetired_RefundsAllTheSame() external {
        givenWaiting();
        retire();
        passAnswerDeadline();
        expire();
        assertHeld(0, 0, FEE);
    }

    function test_GivenAnotherRequestWaits_LeavesItAlone() external {
        givenWaiting();
        vm.warp(block.timestamp + 1);
        vm.prank(stranger);
        uint256 later = deployments.requestScore{value: FEE}(deploymentId, QUERY);
        passAnswerDeadline(); // the first's; the other's last second
        expire();
        vm.assertEq(uint256(deployments.request(later).state), uint256(IModelDeployment.RequestState.Waiting), "the other still waits");
        assertHeld(FEE, 0, FEE);
        requestId = later;
        answer();
        assertHeld(0, FEE, FEE);
    }

    function test_GivenTheRequesterRefusesMoney_ExpiresAllTheSame() external {
        borrower = address(new Refuser());
        vm.deal(borrower, FEE);
        givenExpired();
        assertHeld(0, 0, FEE);
    }

    function test_GivenTheFeeIsZero_CreditsNothing() external {
        givenDeployment(0);
        ask();
        passAnswerDeadline();
        vm.recordLogs();
        expire();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1, "no credit is told");
        vm.assertEq(logs[0].topics[0], IModelDeployment.RequestExpired.selector, "the expiry is");
        assertHeld(0, 0, 0);
    }

    function testFuzz_RefundsTheRequester_WhoeverCalls(address caller) external {
        givenWaiting();
        passAnswerDeadline();
        vm.expectEmit(address(deployments));
        emit IModelDeployment.RequestExpired(requestId, deploymentId);
        expectCredit(borrower, IModelDeployment.CreditReason.Refund);
        vm.prank(caller);
        deployments.expireRequest(requestId);
        assertRequestState(IModelDeployment.RequestState.Expired);
        vm.assertEq(deployments.request(requestId).answerDigest, bytes32(0), "no answer");
        assertHeld(0, 0, FEE);
    }

    function refuseExpiry(IModelDeployment.RequestState state) private {
        refuseNotWaiting(state);
        expire();
    }

    function refuseEarly() private {
        uint64 deadline = deployments.request(requestId).deadline;
        refused(abi.encodeWithSelector(IModelDeployment.ModelDeployment_DeadlineNotPassed.selector, requestId, deadline));
        expire();
    }
}
