// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelDeployment} from "../../../src/interfaces/IModelDeployment.sol";
import {Vm} from "../../Vm.sol";
import {ServingBase} from "../ServingBase.sol";

contract AnswerScoreTest is ServingBase {
    function test_RevertGiven_TheRequestIsNotWaiting() external {
        requestId = 9;
        refuseAnswer(IModelDeployment.RequestState.None);
        givenAnswered();
        refuseAnswer(IModelDeployment.RequestState.Answered);
        assertHeld(0, FEE, 0);
        givenExpired();
        refuseAnswer(IModelDeployment.RequestState.Expired);
        assertHeld(0, FEE, FEE);
    }

    function test_RevertGiven_TheWindowIsOver() external {
        givenWaiting();
        uint64 deadline = deployments.request(requestId).deadline;
        passAnswerDeadline();
        assertRequestState(IModelDeployment.RequestState.Waiting);
        refused(abi.encodeWithSelector(IModelDeployment.ModelDeployment_DeadlinePassed.selector, requestId, deadline));
        answer();
    }

    function testFuzz_RevertWhen_TheCallerIsNotTheLender(address caller) external {
        vm.assume(caller != lender);
        givenWaiting();
        refuseCaller(caller);
    }

    function test_RevertWhen_TheCallerIsTheBorrowerOrAnotherLender() external {
        givenWaiting();
        refuseCaller(borrower);
        uint256 served = deploymentId;
        lender = vm.addr(102);
        vm.deal(lender, 100 ether);
        givenEvaluating();
        report(TARGET_ERROR);
        givenDeployment();
        deploymentId = served;
        refuseCaller(lender);
    }

    function test_RevertWhen_TheAnswerDigestIsZero() external {
        givenWaiting();
        vm.prank(lender);
        refuseEmpty("answerDigest");
        deployments.answerScore(requestId, bytes32(0));
    }

    function test_GivenTheLastSecond_Accepts() external {
        givenWaiting();
        vm.warp(deployments.request(requestId).deadline);
        answer();
        assertHeld(0, FEE, 0);
    }

    function test_GivenTheDeploymentIsRetired_Accepts() external {
        givenWaiting();
        retire();
        answer();
        assertRequestState(IModelDeployment.RequestState.Answered);
        assertHeld(0, FEE, 0);
    }

    function test_GivenTheFeeIsZero_CreditsNothing() external {
        givenDeployment(0);
        ask();
        vm.recordLogs();
        answer();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1, "no credit is told");
        vm.assertEq(logs[0].topics[0], IModelDeployment.ScoreAnswered.selector, "the answer is");
        assertRequestState(IModelDeployment.RequestState.Answered);
        assertHeld(0, 0, 0);
    }

    function test_StoresTheAnswerAndCreditsTheFee() external {
        givenWaiting();
        uint64 deadline = deployments.request(requestId).deadline;
        vm.expectEmit(address(deployments));
        emit IModelDeployment.ScoreAnswered(requestId, deploymentId, ANSWER);
        expectCredit(lender, IModelDeployment.CreditReason.Fee);
        answer();

        IModelDeployment.Request memory answered = deployments.request(requestId);
        vm.assertEq(uint256(answered.state), uint256(IModelDeployment.RequestState.Answered), "state");
        vm.assertEq(answered.answerDigest, ANSWER, "answer");
        vm.assertEq(answered.queryDigest, QUERY, "the query stays");
        vm.assertEq(answered.requester, borrower, "the requester stays");
        vm.assertEq(answered.deadline, deadline, "the deadline stays");
        assertHeld(0, FEE, 0);
    }

    /// At every moment exactly one of the two can happen, and the fee goes to one side whole.
    function testFuzz_AtAnyTime_EitherAnswersOrExpires(uint128 fee, uint32 window, uint256 delay) external {
        window = uint32(bound(window, MINIMUM_WINDOW, 14 days));
        delay = bound(delay, 0, 2 * uint256(window));
        vm.deal(borrower, fee);
        vm.prank(lender);
        deploymentId = deployments.deploy(modelId, SCORING, fee, window);
        ask();
        vm.warp(block.timestamp + delay);

        vm.prank(lender);
        (bool isAnswered,) = address(deployments).call(abi.encodeCall(IModelDeployment.answerScore, (requestId, ANSWER)));
        (bool isExpired,) = address(deployments).call(abi.encodeCall(IModelDeployment.expireRequest, (requestId)));
        vm.assertTrue(isAnswered != isExpired, "one of the two");
        vm.assertTrue(isAnswered == (delay <= window), "in time");
        assertHeld(0, isAnswered ? fee : 0, isExpired ? fee : 0);
    }

    function refuseAnswer(IModelDeployment.RequestState state) private {
        refuseNotWaiting(state);
        answer();
    }

    function refuseCaller(address caller) private {
        vm.prank(caller);
        refuseNotLender(caller);
        deployments.answerScore(requestId, ANSWER);
    }
}
