// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelDeployment} from "../../src/ModelDeployment.sol";
import {IModelDeployment} from "../../src/interfaces/IModelDeployment.sol";
import {Base} from "../ModelRepository/Base.sol";

/// @title The market of {Base} with its model trained, a borrower, and the way to every state of a request.
abstract contract ServingBase is Base {
    uint128 internal constant FEE = 0.003 ether + 1;
    uint32 internal constant ANSWER_WINDOW = 500;

    bytes32 internal constant SCORING = keccak256("scoring");
    bytes32 internal constant QUERY = keccak256("query");
    bytes32 internal constant ANSWER = keccak256("answer");

    ModelDeployment internal deployments;
    address internal borrower = vm.addr(200);
    uint256 internal deploymentId;
    uint256 internal requestId;

    function setUp() public virtual override {
        super.setUp();
        deployments = new ModelDeployment(repository);
        vm.deal(borrower, 100 ether);
        givenEvaluating();
        report(TARGET_ERROR);
    }

    // ------------------------------------------------------------------------------------------------- the way to a state

    function givenDeployment() internal {
        givenDeployment(FEE);
    }

    function givenDeployment(uint128 fee) internal {
        vm.prank(lender);
        deploymentId = deployments.deploy(modelId, SCORING, fee, ANSWER_WINDOW);
    }

    function givenRetired() internal {
        givenDeployment();
        retire();
    }

    function givenWaiting() internal {
        givenDeployment();
        ask();
    }

    function givenAnswered() internal {
        givenWaiting();
        answer();
    }

    function givenExpired() internal {
        givenWaiting();
        passAnswerDeadline();
        expire();
    }

    // ------------------------------------------------------------------------------------------------------- single steps

    function ask() internal {
        uint256 fee = deployments.deployment(deploymentId).fee;
        vm.prank(borrower);
        requestId = deployments.requestScore{value: fee}(deploymentId, QUERY);
    }

    function answer() internal {
        vm.prank(lender);
        deployments.answerScore(requestId, ANSWER);
    }

    function expire() internal {
        vm.prank(stranger);
        deployments.expireRequest(requestId);
    }

    function retire() internal {
        vm.prank(lender);
        deployments.retire(deploymentId);
    }

    function passAnswerDeadline() internal {
        vm.warp(uint256(deployments.request(requestId).deadline) + 1);
    }

    // ------------------------------------------------------------------------------------------------------ what must hold

    function refuseNotWaiting(IModelDeployment.RequestState state) internal {
        refused(abi.encodeWithSelector(IModelDeployment.ModelDeployment_RequestNotWaiting.selector, requestId, state));
    }

    function refuseNotLender(address account) internal {
        refused(abi.encodeWithSelector(IModelDeployment.ModelDeployment_NotLender.selector, deploymentId, account));
    }

    function refuseEmpty(string memory name) internal {
        refused(abi.encodeWithSelector(IModelDeployment.ModelDeployment_EmptyWord.selector, name));
    }

    function expectCredit(address account, IModelDeployment.CreditReason reason) internal {
        vm.expectEmit(address(deployments));
        emit IModelDeployment.Credited(account, requestId, reason, FEE);
    }

    function assertRequestState(IModelDeployment.RequestState state) internal view {
        vm.assertEq(uint256(deployments.request(requestId).state), uint256(state), "request state");
    }

    /// @dev Every wei of the contract is somebody's, no ether having been forced in.
    function assertHeld(uint256 fees, uint256 lenders, uint256 borrowers) internal view {
        (uint256 held, uint256 credits) = deployments.totals();
        vm.assertEq(held, fees, "fees of waiting requests");
        vm.assertEq(deployments.creditOf(lender), lenders, "the lender's credit");
        vm.assertEq(deployments.creditOf(borrower), borrowers, "the borrower's credit");
        vm.assertEq(credits, lenders + borrowers, "credits");
        vm.assertEq(address(deployments).balance, held + credits, "balance != fees + credits");
    }
}
