// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "../../../src/interfaces/ILedger.sol";
import {IModelDeployment} from "../../../src/interfaces/IModelDeployment.sol";
import {ServingBase} from "../ServingBase.sol";

contract RequestScoreTest is ServingBase {
    function testFuzz_RevertWhen_TheDeploymentDoesNotExist(uint256 id) external {
        givenDeployment();
        vm.assume(id != deploymentId);
        refuseServing(id, FEE);
        refuseServing(id, 0); // the fee of what does not exist
    }

    function test_RevertGiven_TheDeploymentIsRetired() external {
        givenRetired();
        refuseServing(deploymentId, FEE);
        givenDeployment();
        ask(); // the model's next deployment is another
        assertRequestState(IModelDeployment.RequestState.Waiting);
    }

    function test_RevertWhen_TheQueryDigestIsZero() external {
        givenDeployment();
        vm.prank(borrower);
        refuseEmpty("queryDigest");
        deployments.requestScore{value: FEE}(deploymentId, bytes32(0));
    }

    function testFuzz_RevertWhen_TheValueIsNotTheFee(uint128 fee, uint256 value) external {
        givenDeployment(fee);
        value = bound(value, 0, 100 ether);
        vm.assume(value != fee);
        vm.prank(borrower);
        refused(abi.encodeWithSelector(ILedger.Ledger_WrongValue.selector, uint256(fee), value));
        deployments.requestScore{value: value}(deploymentId, QUERY);
    }

    function test_RevertWhen_TheValueIsOneWeiOff() external {
        givenDeployment();
        for (uint256 value = FEE - 1; value <= FEE + 1; value += 2) {
            vm.prank(borrower);
            refused(abi.encodeWithSelector(ILedger.Ledger_WrongValue.selector, uint256(FEE), value));
            deployments.requestScore{value: value}(deploymentId, QUERY);
        }
        assertHeld(0, 0, 0);
    }

    function test_GivenTheFeeIsZero_HoldsNothing() external {
        givenDeployment(0);
        ask();
        assertRequestState(IModelDeployment.RequestState.Waiting);
        assertHeld(0, 0, 0);
    }

    function test_GivenTheFeeIsTheLargest_HoldsIt() external {
        givenDeployment(type(uint128).max);
        vm.deal(borrower, 2 * uint256(type(uint128).max));
        ask();
        ask();
        assertHeld(2 * uint256(type(uint128).max), 0, 0);
    }

    /// A rule that queries must be new would let anybody block a pending request, and a retry sends the same bytes.
    function test_GivenTheSameQueryWasSentBefore_OpensAnother() external {
        givenDeployment();
        vm.prank(stranger); // ahead of the borrower's transaction
        uint256 copy = deployments.requestScore{value: FEE}(deploymentId, QUERY);
        ask();
        vm.assertEq(requestId, copy + 1, "a request of its own");
        answer();
        vm.assertEq(uint256(deployments.request(copy).state), uint256(IModelDeployment.RequestState.Waiting), "the copy still waits");
        assertHeld(FEE, FEE, 0);
        ask(); // once more, by the same account
        vm.assertEq(requestId, copy + 2, "and another");
        assertHeld(2 * uint256(FEE), FEE, 0);
    }

    function test_HoldsTheFeeUntilTheAnswer() external {
        givenDeployment();
        uint64 deadline = uint64(block.timestamp) + ANSWER_WINDOW;
        vm.expectEmit(address(deployments));
        emit IModelDeployment.ScoreRequested(1, deploymentId, borrower, QUERY, deadline);
        uint256 before = borrower.balance;
        ask();

        IModelDeployment.Request memory created = deployments.request(1);
        vm.assertEq(requestId, 1, "first id");
        vm.assertEq(deployments.requestCount(), 1, "requests");
        vm.assertEq(created.deploymentId, deploymentId, "deployment");
        vm.assertEq(created.requester, borrower, "requester");
        vm.assertEq(uint256(created.state), uint256(IModelDeployment.RequestState.Waiting), "state");
        vm.assertEq(created.deadline, deadline, "deadline");
        vm.assertEq(created.queryDigest, QUERY, "query");
        vm.assertEq(created.answerDigest, bytes32(0), "no answer yet");
        vm.assertEq(borrower.balance, before - FEE, "paid");
        assertHeld(FEE, 0, 0);
    }

    function refuseServing(uint256 id, uint256 value) private {
        vm.prank(borrower);
        refused(abi.encodeWithSelector(IModelDeployment.ModelDeployment_NotServing.selector, id));
        deployments.requestScore{value: value}(id, QUERY);
        vm.assertEq(deployments.requestCount(), 0, "nothing requested");
    }
}
