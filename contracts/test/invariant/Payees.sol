// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IModelDeployment} from "../../src/interfaces/IModelDeployment.sol";
import {IModelRepository} from "../../src/interfaces/IModelRepository.sol";

/// @dev An account that never takes its money.
contract Refuser {
    receive() external payable {
        revert("no, thank you");
    }
}

/// @dev An account that, while it is paid, tries everything that could pay it again.
contract Reenterer {
    IModelRepository private immutable repository;

    constructor(IModelRepository repository_) {
        repository = repository_;
    }

    receive() external payable {
        attempt(abi.encodeCall(repository.withdraw, ()));
        for (uint256 id = 1; id <= 3; id++) {
            attempt(abi.encodeCall(repository.leave, (id)));
            attempt(abi.encodeCall(repository.expireRound, (id)));
            attempt(abi.encodeCall(repository.closeModel, (id)));
        }
    }

    function attempt(bytes memory call) private {
        (bool isDone,) = address(repository).call(call);
        isDone; // whether it was refused is the repository's business; the sums tell
    }
}

/// @dev The same, where scores are served.
contract ServingReenterer {
    IModelDeployment private immutable deployments;

    constructor(IModelDeployment deployments_) {
        deployments = deployments_;
    }

    receive() external payable {
        attempt(abi.encodeCall(deployments.withdraw, ()));
        for (uint256 id = 1; id <= 3; id++) {
            attempt(abi.encodeCall(deployments.answerScore, (id, bytes32(id))));
            attempt(abi.encodeCall(deployments.expireRequest, (id)));
            attempt(abi.encodeCall(deployments.retire, (id)));
        }
    }

    function attempt(bytes memory call) private {
        (bool isDone,) = address(deployments).call(call);
        isDone; // whether it was refused is the contract's business; the sums tell
    }
}
