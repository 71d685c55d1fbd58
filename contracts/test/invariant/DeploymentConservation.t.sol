// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ModelDeployment} from "../../src/ModelDeployment.sol";
import {ModelRepository} from "../../src/ModelRepository.sol";
import {IModelDeployment} from "../../src/interfaces/IModelDeployment.sol";
import {IModelRepository} from "../../src/interfaces/IModelRepository.sol";
import {Test} from "../Test.sol";
import {DeploymentHandler} from "./DeploymentHandler.sol";
import {DeploymentWatch} from "./DeploymentWatch.sol";
import {Refuser, ServingReenterer} from "./Payees.sol";

/// @title No fee is created or lost, whatever six accounts do, and everybody can always get out.
contract DeploymentConservationTest is Test {
    ModelRepository private repository;
    ModelDeployment private deployments;
    DeploymentHandler private handler;
    address[] private actors;
    address private refuser;

    function setUp() external {
        vm.warp(1_800_000_000);
        repository = new ModelRepository(60);
        deployments = new ModelDeployment(repository);
        refuser = address(new Refuser());
        actors.push(refuser);
        actors.push(address(new ServingReenterer(deployments)));
        for (uint256 i = 1; i <= 4; i++) {
            actors.push(vm.addr(i));
        }
        for (uint256 i = 0; i < 4; i++) {
            train(actors[i], i == 3 ? 1 : 0); // the last stays above its target
        }
        handler = new DeploymentHandler(deployments, actors);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_conservation() external view {
        (uint256 fees, uint256 credits) = deployments.totals();
        uint256 tracked = fees + credits;
        vm.assertEq(address(deployments).balance, tracked + handler.forced(), "balance != fees + credits + forced");
        vm.assertEq(tracked + handler.withdrawn(), handler.deposited(), "held + withdrawn != deposited");

        uint256 owed = 0;
        for (uint256 i = 0; i < actors.length; i++) {
            owed += deployments.creditOf(actors[i]);
        }
        vm.assertEq(owed, credits, "sum of the accounts' credits != credits");
        vm.assertEq(sumOfWaiting(), fees, "sum of the waiting requests' fees != fees");

        DeploymentWatch watch = handler.watch();
        uint256 moved = 0;
        for (uint256 id = 1; id <= deployments.deploymentCount(); id++) {
            uint256 fee = deployments.deployment(id).fee;
            vm.assertEq(handler.earnedBy(id), fee * watch.answered(id), "earned != fee * answers");
            vm.assertEq(handler.refundedBy(id), fee * watch.expired(id), "refunded != fee * expiries");
            moved += handler.earnedBy(id) + handler.refundedBy(id);
        }
        vm.assertEq(moved + fees, handler.deposited(), "earned + refunded + waiting != deposited");
    }

    /// Time passes, and each account acts alone: nobody's money can be held back by anybody else.
    function afterInvariant() external {
        for (uint256 id = 1; id <= deployments.deploymentCount(); id++) {
            if (deployments.deployment(id).isRetired) continue;
            vm.prank(deployments.deployment(id).lender);
            deployments.retire(id);
        }
        handler.watch().look();
        handler.watch().lookBack();
        vm.warp(block.timestamp + 14 days + 1);
        for (uint256 id = 1; id <= deployments.requestCount(); id++) {
            if (deployments.request(id).state == IModelDeployment.RequestState.Waiting) deployments.expireRequest(id);
        }
        for (uint256 i = 0; i < actors.length; i++) {
            if (actors[i] == refuser || deployments.creditOf(actors[i]) == 0) continue;
            vm.prank(actors[i]);
            deployments.withdraw();
        }
        uint256 left = deployments.creditOf(refuser) + handler.forced();
        vm.assertEq(address(deployments).balance, left, "after everybody left: balance != the refuser's credit + forced");
    }

    function sumOfWaiting() private view returns (uint256 sum) {
        for (uint256 id = 1; id <= deployments.requestCount(); id++) {
            IModelDeployment.Request memory request = deployments.request(id);
            if (request.state == IModelDeployment.RequestState.Waiting) sum += deployments.deployment(request.deploymentId).fee;
        }
    }

    /// @dev One round with a cohort of one, which is the lender itself.
    function train(address lender, uint64 newError) private {
        IModelRepository.Terms memory terms;
        (terms.bounty, terms.initialError, terms.maxRounds, terms.cohortSize, terms.rowCap) = (1, 2, 2, 1, 1);
        (terms.submitWindow, terms.acceptWindow, terms.unlockWindow, terms.evaluateWindow) = (60, 60, 60, 60);
        terms.trainingDeadline = uint64(block.timestamp + 1);
        bytes32 word = bytes32(uint256(1));
        vm.deal(lender, 1);
        vm.startPrank(lender);
        uint256 modelId = repository.createModel{value: 1}(terms, word, word);
        uint256 cohortId = repository.model(modelId).formingCohortId;
        repository.join(modelId, cohortId, word, 1);
        uint256 roundId = repository.openRound(cohortId);
        repository.submitGradient(roundId, word, keccak256(abi.encode(repository.contextOf(roundId), 0, word)));
        repository.acceptSubmissions(roundId);
        repository.unlock(roundId, word);
        repository.reportRound(roundId, newError, word, word);
        vm.stopPrank();
        vm.assertTrue(repository.model(modelId).isTrained == (newError == 0), "trained");
    }
}
